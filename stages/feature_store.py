"""Rows of features of some clips, wherever they are kept: on disk, in memory or on the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.residency import choose
from avpipe.stages.statistics import is_statistics, statistics_name

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache

CPU = torch.device("cpu")
ROWS_AT_ONCE = 512
"""Segments that are read at a time into memory."""
STAGING_BYTES = 64 * 2**20
"""Size of each of the two buffers through which features go to the GPU."""


class FeatureStore:
    """Rows of the features of some clips.

    Picklable; a copy in another process opens the cache itself and reads from disk.

    Args:
        cache: the open cache.
        taps: names of the taps to read, by modality, in order of depth.
        clips: clips that will be asked for; those that the cache does not have complete are left out.
        residency: `disk`, `ram`, `gpu`, or `auto`: the best of them that fits. See `residency`.
        device: where batches are wanted; features are kept there with residency `gpu`.
        media: modalities whose stored frames or samples are read beside the taps.

    Attributes:
        residency: where the features are: `disk`, `ram` or `gpu`.
        statistics: by array of tokens, the array of their statistics; without those that some clip lacks.

    Raises:
        UsageError: the cache does not have one of the taps, or the residency that is asked for cannot be.
    """

    def __init__(
        self,
        cache: Cache,
        taps: Mapping[str, Sequence[str]],
        clips: Iterable[str],
        *,
        residency: str = "auto",
        device: torch.device = CPU,
        media: Sequence[str] = (),
    ) -> None:
        self.path, self.device = Path(cache.path), device
        self.taps = {m: tuple(names) for m, names in taps.items()}
        self.media = tuple(media)
        tokens = [f"{m}/{tap}" for m, names in self.taps.items() for tap in names]
        self.arrays = (*tokens, *(RAW_ARRAYS[m] for m in self.media))
        lacking = [name for name in self.arrays if name not in cache.arrays]
        if lacking:
            raise UsageError(f"cache {self.path} has no {', '.join(lacking)}: add it with `avpipe extract --layers`")
        self.unit_rows = int(cache.unit_rows)
        held = cache.clips(self.arrays)
        self.clips = {clip: held[clip] for clip in dict.fromkeys(clips) if clip in held}
        self.statistics = self._statistics(cache)
        self.specs = {name: cache.arrays[name] for name in (*self.arrays, *self.statistics.values())}
        self._cache: Cache | None = cache
        spans = [np.arange(c.start, c.start + c.segments) for c in self.clips.values()]
        self._rows = np.sort(np.concatenate(spans)) if spans else np.empty(0, np.int64)
        self._memory: dict[str, Tensor] | None = None
        self.residency = self._settle(residency)

    def _statistics(self, cache: Cache) -> dict[str, str]:
        """Arrays of statistics, in their shape and type, that are there for every clip, by their arrays of tokens."""
        names = {f"{m}/{t}": statistics_name(f"{m}/{t}") for m, taps in self.taps.items() for t in taps}
        known = {n: s for n, s in names.items() if s in cache.arrays and is_statistics(cache.arrays[s], cache.arrays)}
        if self.clips.keys() <= cache.clips(list(known.values())).keys():  # the usual case: one look through the cache
            return known
        return {name: each for name, each in known.items() if self.clips.keys() <= cache.clips([each]).keys()}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of which anything is read."""
        return tuple(dict.fromkeys((*self.taps, *self.media)))

    @property
    def row_bytes(self) -> int:
        """Bytes of one segment over all taps."""
        return sum(int(spec.row_bytes) for spec in self.specs.values())

    @property
    def longest(self) -> int:
        """Segments of the longest clip."""
        return max((clip.segments for clip in self.clips.values()), default=0)

    def unit(self, clip: str) -> int:
        """Number of the unit of the cache in which a clip lies; one unit is one file per tap."""
        return self.clips[clip].start // self.unit_rows

    def buffers(self, rows: int, *, pinned: bool = False) -> dict[str, Tensor]:
        """Memory for `read` to fill, `[rows, N, C]` for each array; `pinned` for fast copies to CUDA."""
        return {
            name: torch.empty((rows, *spec.row_shape), dtype=getattr(torch, spec.dtype), pin_memory=pinned)
            for name, spec in self.specs.items()
        }

    def read(
        self, rows: np.ndarray, arrays: Sequence[str] | None = None, out: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Tokens of rows of the store's clips.

        Args:
            rows: int64 `[n]`, each a row of one of `clips`.
            arrays: which arrays; default: all of the store, statistics too.
            out: from `buffers`, of `n` rows or more: filled from the start, nothing is allocated. Not used with
                residency `gpu`, where rows are gathered on the device.

        Returns:
            `[n, N, C]` for each array (statistics: `[n, N, 2]`), views of `out` where given.

        Raises:
            UsageError: a row is of no clip of the store.
        """
        names = tuple(self.specs) if arrays is None else tuple(arrays)
        where = self._places(rows)
        if self.residency == "gpu" and self._memory is not None:
            places = torch.from_numpy(where).to(self.device)
            return {name: self._memory[name].index_select(0, places) for name in names}
        target = self.buffers(len(rows)) if out is None else out
        found = {name: target[name][: len(rows)] for name in names}
        if self._memory is None:
            self._open().read(rows, names, {name: values.numpy() for name, values in found.items()})
        else:
            for name, target_rows in found.items():  # numpy copies whole rows in this thread, without the GIL
                np.take(self._memory[name].numpy(), where, axis=0, out=target_rows.numpy(), mode="clip")
        return found

    def by_modality(self, found: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], ...]:
        """Tokens and statistics, each by modality and tap, of what `read` gave by array."""
        names = {m: {tap: f"{m}/{tap}" for tap in taps} for m, taps in self.taps.items()}
        return (
            {m: {tap: found[name] for tap, name in taps.items() if name in found} for m, taps in names.items()},
            {
                m: {tap: found[each] for tap, name in taps.items() if (each := self.statistics.get(name, "")) in found}
                for m, taps in names.items()
            },
        )

    def media_of(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Frames and samples, by modality, of what `read` gave by array."""
        return {m: found[RAW_ARRAYS[m]] for m in self.media if RAW_ARRAYS[m] in found}

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Places of rows among all rows of the store's clips, int64 `[n]`."""
        where = np.searchsorted(self._rows, rows)
        held = where < len(self._rows)
        held[held] = self._rows[where[held]] == rows[held]
        if not held.all():
            raise UsageError(
                f"row {rows[~held][0]} of cache {self.path} is of no clip of this FeatureStore: name all clips that "
                "will be asked for when you make it"
            )
        return where

    def _settle(self, wanted: str) -> str:
        """Chooses the residency, says why, and loads what is to be loaded."""
        need = self.row_bytes * len(self._rows)
        choice = choose(wanted, need, self.device)
        size = f"{need / 2**20:,.1f} MiB of features of {len(self.clips)} clips"
        if self.clips:  # of none, who asked says what is lacking
            progress.say(f"{size}: residency {choice.place} ({choice.why})")
        if choice.place == "ram":
            self._memory = self.buffers(len(self._rows))
            load(self._open(), self._rows, self._memory)
        elif choice.place == "gpu":
            staging = [self.buffers(max(1, STAGING_BYTES // self.row_bytes), pinned=True) for _ in range(2)]
            self._memory = load_staged(self._open(), self._rows, staging, self.device)
        return choice.place

    def _open(self) -> Cache:
        if self._cache is None:
            from avpipe.pipeline import open_cache

            self._cache = open_cache(self.path)
        return self._cache

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None, "_memory": None, "residency": "disk"}


def load(cache: Cache, rows: np.ndarray, memory: Mapping[str, Tensor]) -> None:
    """Reads rows straight into memory, checksums compared.

    Args:
        cache: the open cache.
        rows: int64 `[n]`.
        memory: `[n, N, C]` for each array, on the CPU.
    """
    with progress.task("load features", len(rows), "segments") as task:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(rows))
            part = {name: values[start:stop].numpy() for name, values in memory.items()}
            cache.read(rows[start:stop], tuple(memory), part)
            task.advance(stop - start)


def load_staged(
    cache: Cache, rows: np.ndarray, staging: Sequence[Mapping[str, Tensor]], device: torch.device
) -> dict[str, Tensor]:
    """Reads rows to a device through buffers in turn, so that one is copied while the next is read.

    Args:
        cache: the open cache.
        rows: int64 `[n]`.
        staging: buffers of the same number of rows, pinned for a CUDA device.
        device: where to.

    Returns:
        `[n, N, C]` for each array, on `device`.
    """
    size = len(next(iter(staging[0].values())))
    memory = {
        name: torch.empty((len(rows), *values.shape[1:]), dtype=values.dtype, device=device)
        for name, values in staging[0].items()
    }
    copied: list[torch.cuda.Event | None] = [None] * len(staging)
    with progress.task("load features", len(rows), "segments") as task:
        for number, start in enumerate(range(0, len(rows), size)):
            turn, stop = number % len(staging), min(start + size, len(rows))
            if (event := copied[turn]) is not None:
                event.synchronize()  # what this buffer held has arrived
            part = {name: values[: stop - start] for name, values in staging[turn].items()}
            cache.read(rows[start:stop], tuple(part), {name: values.numpy() for name, values in part.items()})
            for name, values in part.items():
                memory[name][start:stop].copy_(values, non_blocking=True)
            copied[turn] = copy_mark(device)
            task.advance(stop - start)
    for event in copied:
        if event is not None:
            event.synchronize()
    return memory


def copy_mark(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind the copies that were asked for so far on a CUDA device; None elsewhere, where copies are done."""
    if device.type != "cuda":
        return None
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
