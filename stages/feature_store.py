"""Rows of features of some clips, in memory where they fit, else from the cache."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache

RAM_SHARE = 0.5
"""Share of the free memory that features may fill."""
ROWS_AT_ONCE = 512
NOT_TAPS = ("frames", "samples")
"""Arrays beside the taps: what the backbones were fed."""


def taps_of(cache: Cache, modality: str) -> tuple[str, ...]:
    """Taps that a cache has for a modality, in order of depth (numbers in names count as numbers).

    Raises:
        UsageError: it has none.
    """
    arrays = [a for a in cache.arrays.values() if a.modality == modality and a.tap not in NOT_TAPS]
    if not arrays:
        held = sorted({a.modality for a in cache.arrays.values() if a.tap not in NOT_TAPS})
        raise UsageError(
            f"cache {cache.path} holds no {modality} features (it has: {', '.join(held) or 'none'}): "
            f"run `avpipe extract --dataset {cache.dataset.get('name', 'NAME')} --cache {cache.path}`, or train with "
            "--modality on what is there"
        )
    return tuple(sorted((a.tap for a in arrays), key=_in_order))


def every_tap(cache: Cache, modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """All taps that a cache has, by modality; errors as `taps_of`."""
    return {modality: taps_of(cache, modality) for modality in modalities}


def _in_order(tap: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", tap)]


class FeatureStore:
    """Rows of the features of some clips: in memory where they fit, else read from the cache batch by batch.

    Picklable; a copy in another process opens the cache itself and reads from it.

    Args:
        cache: the open cache.
        taps: names of the taps to read, by modality, in order of depth.
        clips: clips that will be asked for; those that the cache does not have complete are left out.
        ram_bytes: memory that features may fill; default: half of what is free.

    Raises:
        UsageError: the cache does not have one of the taps.
    """

    def __init__(
        self,
        cache: Cache,
        taps: Mapping[str, Sequence[str]],
        clips: Iterable[str],
        *,
        ram_bytes: int | None = None,
    ) -> None:
        self.path = Path(cache.path)
        self.taps = {m: tuple(names) for m, names in taps.items()}
        self.arrays = tuple(f"{m}/{tap}" for m, names in self.taps.items() for tap in names)
        lacking = [name for name in self.arrays if name not in cache.arrays]
        if lacking:
            raise UsageError(f"cache {self.path} has no {', '.join(lacking)}: add it with `avpipe extract --layers`")
        self.specs = {name: cache.arrays[name] for name in self.arrays}
        held = cache.clips(self.arrays)
        self.clips = {clip: held[clip] for clip in dict.fromkeys(clips) if clip in held}
        self._cache: Cache | None = cache
        self._memory: dict[str, Tensor] | None = None
        spans = [np.arange(c.start, c.start + c.segments) for c in self.clips.values()]
        self._rows = np.sort(np.concatenate(spans)) if spans else np.empty(0, np.int64)
        allowed = int(free_bytes() * RAM_SHARE) if ram_bytes is None else ram_bytes
        self._load(allowed)

    @property
    def row_bytes(self) -> int:
        """Bytes of one segment over all taps."""
        return sum(int(spec.row_bytes) for spec in self.specs.values())

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, int]]]:
        """`(N, C)` by modality and tap."""
        return {m: {tap: self._shape(f"{m}/{tap}") for tap in taps} for m, taps in self.taps.items()}

    def read(self, rows: np.ndarray, arrays: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tokens of rows of the store's clips, `[len(rows), N, C]` for each of `arrays` (default: the store's)."""
        names = self.arrays if arrays is None else tuple(arrays)
        if self._memory is not None:
            where = torch.from_numpy(np.searchsorted(self._rows, rows))
            return {name: self._memory[name].index_select(0, where) for name in names}
        return {name: torch.from_numpy(values) for name, values in self._open().read(rows, names).items()}

    def _load(self, allowed: int) -> None:
        need, clips = self.row_bytes * len(self._rows), len(self.clips)
        size = f"{need / 2**20:,.0f} MiB of features of {clips} clips"
        if need > allowed:
            progress.say(f"{size}: more than {allowed / 2**20:,.0f} MiB of free memory, read from disk batch by batch")
            return
        buffers = {n: np.empty((len(self._rows), *s.row_shape), s.dtype) for n, s in self.specs.items()}
        with progress.task("load features", len(self._rows), "segments") as task:
            for start in range(0, len(self._rows), ROWS_AT_ONCE):
                part = slice(start, min(start + ROWS_AT_ONCE, len(self._rows)))
                self._open().read(self._rows[part], self.arrays, {n: b[part] for n, b in buffers.items()})
                task.advance(part.stop - part.start)
        self._memory = {name: torch.from_numpy(buffer) for name, buffer in buffers.items()}
        progress.say(f"{size} in memory")

    def _shape(self, array: str) -> tuple[int, int]:
        shape = tuple(self.specs[array].row_shape)
        if len(shape) != 2:
            raise UsageError(f"array {array} of cache {self.path} has rows of shape {shape}, tokens have [N, C]")
        return shape

    def _open(self) -> Cache:
        if self._cache is None:
            from avpipe.pipeline import open_cache

            self._cache = open_cache(self.path)
        return self._cache

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None, "_memory": None}


def free_bytes() -> int:
    """Memory that can be filled without swapping, bytes."""
    try:
        text = Path("/proc/meminfo").read_text()
        return int(text.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
