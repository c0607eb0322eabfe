"""Reading a cache: what it holds, and rows of any taps, straight through the shards' own indexes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avpipe.pipeline.cache import content
from avpipe.pipeline.cache.clips import ClipRows, merge
from avpipe.pipeline.cache.files import Access, OpenShards, Shard, ShardDamaged
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.records import CommittedFile, Quarantined
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.cache.summary import summarize
from avpipe.pipeline.errors import CorruptionFound, UsageError, unknown_name

Check = Literal["first", "always", "never"]


def open_cache(path: Path | str) -> Cache:
    """Opens a cache for reading; where the folder can be written, finishes what dead writers left.

    Args:
        path: folder of the cache.

    Raises:
        UsageError: there is nothing, or no cache.
        CorruptionFound: the ledger is damaged.
    """
    return Cache(Path(path))


class Cache:
    """A cache as committed at the time of opening. Can be pickled: the copy opens the folder again.

    Attributes:
        path: folder of the cache.
        unit_rows: rows of a unit.
        dataset: what the cache is of.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._layout = Layout(path)
        self.reload()

    def __reduce__(self) -> tuple[object, ...]:
        return Cache, (self.path,)

    def reload(self) -> None:
        """Takes in what has been committed since the cache was opened."""
        if not self.path.exists():
            raise UsageError(f"there is no cache at {self.path}: no such folder")
        self._ledger = Ledger(self._layout)
        if os.access(self._layout.temporaries, os.W_OK):
            recover(self._ledger)
        self.unit_rows = self._ledger.unit_rows
        self.dataset: Mapping[str, Any] = self._ledger.info["dataset"]
        self._open_shards = OpenShards()
        self._owners: dict[tuple[str, int], np.ndarray] = {}

    @property
    def arrays(self) -> Mapping[str, ArraySpec]:
        """Every declared array, by name."""
        return self._ledger.arrays

    @property
    def specs(self) -> Mapping[str, Spec]:
        """What the features were made with, by modality."""
        return self._ledger.specs

    def clips(self, arrays: Iterable[str] | None = None) -> dict[str, ClipRows]:
        """Clips that are committed and complete, by row.

        Args:
            arrays: names of the arrays that they must be complete in; by default every array of the cache.
        """
        wanted = frozenset(self.arrays if arrays is None else arrays)
        for name in wanted:
            self._array(name)
        complete: dict[str, ClipRows] = {}
        for unit in sorted(self._ledger.held):
            held = self._ledger.held[unit]
            for clip, _ in self._ledger.living(unit):
                if wanted <= held[clip.id]:
                    complete[clip.id] = merge(complete.get(clip.id), clip)
        return dict(sorted(complete.items(), key=lambda item: item[1].start))

    def quarantined(self) -> tuple[Quarantined, ...]:
        """Clips whose last word is a rejection; a clip that was committed later is not among them."""
        return self._ledger.quarantined()

    def rows(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Rows of clips, one clip after the other.

        Args:
            clip_ids: ids of committed clips.

        Returns:
            int64 of shape (sum of the clips' segments).
        """
        parts = []
        for clip in clip_ids:
            unit = self._ledger.home.get(clip)
            if unit is None:
                entry = next((q for q in self.quarantined() if q.clip == clip), None)
                why = (
                    f"it is quarantined: {entry.reason}"
                    if entry
                    else "it was never committed; `avpipe extract` adds it"
                )
                raise UsageError(f"clip {clip!r} is not in {self.path}: {why}")
            start, segments = self._ledger.planned[unit][clip]
            parts.append(np.arange(start, start + segments, dtype=np.int64))
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def read(
        self,
        rows: Sequence[int] | np.ndarray,
        taps: Sequence[str],
        out: Mapping[str, np.ndarray] | None = None,
        *,
        check: Check = "first",
        access: Access = "mmap",
    ) -> dict[str, np.ndarray]:
        """Reads rows of several arrays.

        Args:
            rows: integers of shape (n), in any order.
            taps: names of arrays, such as `visual/blocks.3`.
            out: arrays to fill in place: tap -> C-contiguous, of shape (n, *row_shape) and the array's dtype.
            check: compare each row with its checksum the `first` time that it is read, `always` or `never`.
            access: `mmap` for local disks; `pread` where files may be cut while they are read (network disks).

        Returns:
            tap -> (n, *row_shape), the arrays of `out` where given.

        Raises:
            UsageError: an unknown tap, or a row that no committed clip owns: fill values are never handed out.
            CorruptionFound: bytes are missing or changed; names clip, tap and shard.
        """
        rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        results = {}
        for tap in taps:
            array = self._array(tap)
            result = out[tap] if out is not None else np.empty((len(rows), *array.row_shape), dtype=array.dtype)
            _check_out(result, array, len(rows))
            self._read_tap(rows, array, result, check, access)
            results[tap] = result
        return results

    def content_hash(self) -> str:
        """Hash over clip, array, segment and bytes of all that is committed, wherever it lies; 32 hex digits."""
        total = sum(clip.content for unit in self._ledger.records for clip, _ in self._ledger.living(unit))
        return f"{total % content.MODULUS:032x}"

    def summary(self) -> dict[str, Any]:
        """What the cache holds, JSON-ready."""
        return summarize(self.path, self._ledger, self.content_hash())

    def _array(self, name: str) -> ArraySpec:
        if name not in self.arrays:
            raise unknown_name("tap", name, self.arrays, listing="`avpipe cache show` lists them")
        return self.arrays[name]

    def _read_tap(self, rows: np.ndarray, array: ArraySpec, result: np.ndarray, check: Check, access: Access) -> None:
        target = result.reshape(len(rows), -1).view(np.uint8)
        units, local = np.divmod(rows, self.unit_rows)
        for unit in np.unique(units).tolist():
            places = np.flatnonzero(units == unit)
            self._refuse_unowned(rows[places], array, unit)
            shard = self._shard(array, unit, access)
            for place, row in zip(places.tolist(), local[places].tolist(), strict=True):
                must_check = check == "always" or (check == "first" and not shard.checked[row])
                if shard.offsets[row] < 0 or not shard.copy_row(row, target[place], check=must_check):
                    raise self._damaged(array, unit, "its bytes do not match their checksum", shard.path, row)
                shard.checked[row] |= must_check

    def _refuse_unowned(self, rows: np.ndarray, array: ArraySpec, unit: int) -> None:
        owned = self._owners.get((array.name, unit))
        if owned is None:
            owned = self._owners[array.name, unit] = self._owned(array.name, unit)
        stray = rows[~owned[rows - unit * self.unit_rows]]
        if len(stray):
            row = int(stray[0])
            clip = self._clip_at(unit, row)
            what = (
                f"clip {clip!r} is not complete in it; `avpipe extract` adds it"
                if clip
                else "no committed clip owns it"
            )
            raise UsageError(f"row {row} of {array.name} in {self.path}: {what}")

    def _owned(self, array: str, unit: int) -> np.ndarray:
        owned = np.zeros(self.unit_rows, dtype=bool)
        for clip in self._ledger.clips_in(unit, array):
            if self._ledger.home[clip.id] == unit:
                first = clip.start - unit * self.unit_rows
                owned[first : first + clip.segments] = True
        return owned

    def _shard(self, array: ArraySpec, unit: int, access: Access) -> Shard:
        file = self._file(array.name, unit)
        try:
            return self._open_shards.get(self._layout, file, array, unit, self.unit_rows, access)
        except ShardDamaged as error:
            raise self._damaged(array, unit, str(error), self._layout.root / file.path, None) from error

    def _file(self, array: str, unit: int) -> CommittedFile:
        return self._ledger.current(unit, array)

    def _damaged(self, array: ArraySpec, unit: int, what: str, path: Path, row: int | None) -> CorruptionFound:
        clip = self._clip_at(unit, unit * self.unit_rows + row) if row is not None else None
        clips = [clip] if clip else list(dict.fromkeys(c.id for c, _ in self._ledger.living(unit)))
        named = (
            f"clip {clips[0]!r}"
            if len(clips) == 1
            else f"clips {', '.join(map(repr, clips[:4]))}{', ...' if clips[4:] else ''}"
        )
        return CorruptionFound(
            f"{named}, {array.name}: shard {path} is damaged: {what}; "
            f"run `avpipe cache verify --cache {self.path}` to see all that is damaged"
        )

    def _clip_at(self, unit: int, row: int) -> str | None:
        places = self._ledger.planned.get(unit, {}).items()
        return next(
            (c for c, (start, n) in places if start <= row < start + n and self._ledger.home.get(c) == unit), None
        )


def _check_out(out: np.ndarray, array: ArraySpec, count: int) -> None:
    shape = (count, *array.row_shape)
    if out.shape != shape or out.dtype != np.dtype(array.dtype) or not out.flags.c_contiguous:
        raise UsageError(
            f"out[{array.name!r}] must be a C-contiguous {array.dtype} array of shape {shape}, "
            f"got {out.dtype} of shape {out.shape}"
        )
