"""Reading a cache: what it holds, and rows of any taps, straight through the shards' own indexes."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from avpipe.pipeline.cache import content
from avpipe.pipeline.cache.clips import ClipRows, merge
from avpipe.pipeline.cache.crew import Crew
from avpipe.pipeline.cache.documents import read_sealed
from avpipe.pipeline.cache.files import Check, FileAccess, ShardDamaged
from avpipe.pipeline.cache.filesystem import is_network
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.pieces import as_bytes, as_rows, stretches
from avpipe.pipeline.cache.reading import Access, DiskWatch, Reading, use_zarr
from avpipe.pipeline.cache.records import Quarantined
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.cache.sources import Damage, Sources
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.cache.summary import stand_ins, summarize
from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import CorruptionFound, UsageError, unknown_name

_T = TypeVar("_T")
_MOST_THREADS = 8


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
        self.path = path.absolute()  # it stays the same folder when the process goes to another one
        self._layout = Layout(self.path)
        self._crew, self._disk = Crew(min(cores(), _MOST_THREADS)), DiskWatch()
        self._open()

    def __reduce__(self) -> tuple[object, ...]:
        return Cache, (self.path,)

    def reload(self) -> None:
        """Takes in what has been committed since the cache was opened. Not while another thread uses this `Cache`.

        Reads the ledger's new documents and nothing else: those that were read are not looked at again, and what dead
        writers left stays for whoever opens the cache next. Where another cache lies in the folder now, opens that.

        Raises:
            UsageError: there is no cache any more.
            CorruptionFound: the ledger is damaged.
        """
        if self._lies_there():
            self._ledger.refresh()
            self._sources = Sources(self._ledger)
        else:
            self._open()

    @cached_property
    def access(self) -> FileAccess:
        """How `auto` reads: `mmap` on local file systems, `pread` on those whose files other hosts may cut."""
        return "pread" if is_network(self.path) else "mmap"

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

    def stand_ins(self, clips: Container[str] | None = None) -> dict[str, int]:
        """How many committed clips have no real sound or pictures at all; see `summary.stand_ins`."""
        return stand_ins(self._ledger, clips)

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
        access: Access = "auto",
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Reads rows of several arrays.

        Args:
            rows: integers of shape (n), in any order; reading is fastest where rows of a clip follow each other.
            taps: names of arrays, such as `visual/blocks.3`.
            out: arrays to fill in place: tap -> C-contiguous, of shape (n, *row_shape) and the array's dtype. With
                them nothing large is allocated; `.numpy()` of a pinned torch tensor is one too.
            check: compare each row with its checksum the `first` time that it is read, `always` or `never`.
            access: `mmap` for local disks; `pread` where files may be cut while they are read (network disks); `auto`
                chooses by the file system; `zarr` goes through zarr-python, which always checks.
            threads: threads to use, this one included; by default as many as there are cores, at most 8. Less than
                1 MB is read by the calling thread alone.

        Returns:
            tap -> (n, *row_shape), the arrays of `out` where given.

        Raises:
            UsageError: an unknown tap or option, rows that are no integers, an array of `out` that is missing or does
                not fit, or a row that no committed clip owns: fill values are never handed out.
            CorruptionFound: bytes are missing or changed; names clip, tap and shard.
        """
        _check_option("check", check, Check)
        _check_option("access", access, Access)
        self._sources.begin_anew_in_child()
        rows = as_rows(rows)
        results, targets = {}, []
        for tap in taps:
            array, kind = self._kinds.get(tap) or self._kind(tap)
            if out is not None and tap not in out:
                raise UsageError(f"out has no array for {tap!r}: give one for each tap, or leave `out` away")
            result = np.empty((len(rows), *array.row_shape), kind) if out is None else out[tap]
            results[tap] = result
            targets.append((array, as_bytes(result, array, kind, len(rows))))
        wanted = stretches(rows, self.unit_rows)
        how: FileAccess = self.access if access == "auto" else "pread" if access == "zarr" else access
        reading = Reading(self._sources, how, check, use_zarr(access, self.path, self.unit_rows))
        ahead = how == "pread" or self._disk.was_read()
        self._retrying(lambda: reading.fill(targets, wanted, self._crew, threads, ahead=ahead))
        return results

    def view(self, clip: str, tap: str, *, check: Check = "first") -> np.ndarray:
        """A clip's rows where they lie in the mapped shard: nothing is copied.

        Args:
            clip: id of a committed clip.
            tap: name of an array.
            check: compare each row with its checksum the `first` time, `always` or `never`.

        Returns:
            Read-only, (segments, *row_shape); the file stays mapped as long as the array is there. Do not use it where
            others may cut the file: touching what is gone kills the process.

        Raises:
            UsageError: the clip or the tap is not there, or another writer has placed the rows so that no view exists.
            CorruptionFound: bytes are missing or changed.
        """
        _check_option("check", check, Check)
        self._sources.begin_anew_in_child()
        array, rows = self._array(tap), self.rows([clip])
        unit, row = divmod(int(rows[0]), self.unit_rows)

        def look() -> np.ndarray | None:
            shard = self._sources.shard(array, unit, row, len(rows), "mmap")
            try:
                return shard.view(row, len(rows), check)
            except ShardDamaged as fault:
                raise Damage(array, unit, shard.file, fault, shard.was_replaced()) from fault

        found = self._retrying(look)
        if found is None:
            raise UsageError(f"rows of clip {clip!r} in {tap} do not lie at one distance from each other: use `read`")
        return found

    def close(self) -> None:
        """Ends the reading threads and closes the shards; the next read starts again. Not while a read is under way."""
        self._crew.close()
        self._sources.begin_anew()

    def content_hash(self) -> str:
        """Hash over clip, array, segment and bytes of all that is committed, wherever it lies; 32 hex digits."""
        total = sum(clip.content for unit in self._ledger.records for clip, _ in self._ledger.living(unit))
        return f"{total % content.MODULUS:032x}"

    def summary(self) -> dict[str, Any]:
        """What the cache holds, JSON-ready."""
        return summarize(self.path, self._ledger, self.content_hash())

    def _open(self) -> None:
        if not self.path.exists():
            raise UsageError(f"there is no cache at {self.path}: no such folder")
        self._ledger = Ledger(self._layout)
        if os.access(self._layout.temporaries, os.W_OK):
            recover(self._ledger, if_possible=True)
        self.unit_rows = self._ledger.unit_rows
        self.dataset: Mapping[str, Any] = self._ledger.info["dataset"]
        self._sources = Sources(self._ledger)
        self._kinds: dict[str, tuple[ArraySpec, np.dtype[Any]]] = {}

    def _lies_there(self) -> bool:
        """Whether the folder still holds the cache that was opened: its first document says when it was made."""
        try:
            return read_sealed(self._layout.cache_document) == self._ledger.info
        except (OSError, CorruptionFound):
            return False

    def _kind(self, name: str) -> tuple[ArraySpec, np.dtype[Any]]:
        array = self._array(name)
        self._kinds[name] = array, np.dtype(array.dtype)
        return self._kinds[name]

    def _array(self, name: str) -> ArraySpec:
        if name not in self.arrays:
            raise unknown_name("tap", name, self.arrays, listing="`avpipe cache show` lists them")
        return self.arrays[name]

    def _retrying(self, act: Callable[[], _T]) -> _T:
        """Does something again for as long as the shard that failed turns out to have been repaired meanwhile.

        A shard whose file was replaced without a record (put back from a backup, say) is tried once more; only once,
        because some file systems give a file another inode number at each look.
        """
        tried: set[tuple[str, int]] = set()
        while True:
            try:
                return act()
            except Damage as damage:
                key = damage.array.name, damage.unit
                if not self._sources.repaired(damage) and (key in tried or not damage.replaced):
                    raise self._sources.corruption(damage) from damage
                tried.add(key)


def _check_option(name: str, value: str, known: Any) -> None:
    if value not in get_args(known):
        raise unknown_name(f"{name} option", str(value), get_args(known))
