"""One read: which way each piece of it is copied."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from avpipe.pipeline.cache.copying import matching
from avpipe.pipeline.cache.crew import Crew
from avpipe.pipeline.cache.files import Check, FileAccess, Shard, ShardDamaged
from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.pieces import Piece, Stretch, cut, piece_bytes
from avpipe.pipeline.cache.sources import Damage, Sources
from avpipe.pipeline.cache.zarr_path import ZarrArrays

Access = Literal["auto", "mmap", "pread", "zarr"]

_WORTH_THREADS = 1 << 20
"""Bytes of a read from which on it is worth waking other threads."""


class Reading:
    """How rows are read, with the options of one `Cache.read`.

    Args:
        sources: the shards.
        access: how to read files.
        check: which rows to compare with their checksums.
        zarr: where given, data come through zarr-python.
    """

    def __init__(self, sources: Sources, access: FileAccess, check: Check, zarr: ZarrArrays | None = None) -> None:
        self._sources, self._access, self._check, self._zarr = sources, access, check, zarr

    def fill(
        self,
        targets: Sequence[tuple[ArraySpec, np.ndarray]],
        wanted: Sequence[Stretch],
        crew: Crew,
        threads: int | None,
        *,
        ahead: bool,
    ) -> None:
        """Fills arrays.

        Args:
            targets: arrays and what to fill, uint8 [n, bytes of a row].
            wanted: the stretches of the n rows.
            crew: the threads.
            threads: how many of them to use, the caller included; None for all.
            ahead: ask the disk for pieces before they are copied.

        Raises:
            UsageError: no committed clip owns a row.
            Damage: a shard cannot be read as it was committed.
        """
        total = sum(target.nbytes for _, target in targets)
        used = 1 if total < _WORTH_THREADS or self._zarr is not None else threads or crew.threads
        crew.work(cut(targets, wanted, piece_bytes(total, used)), self._copy, used, self._announce if ahead else None)

    def _copy(self, piece: Piece) -> None:
        shard, piece.shard = piece.shard or self._find(piece), None  # so that no more shards stay open than need be
        try:
            if self._zarr is None:
                shard.fill(piece.row, piece.target, self._check)
            else:
                self._through_zarr(self._zarr, shard, piece)
        except ShardDamaged as fault:
            raise Damage(piece.array, piece.unit, shard.file, fault, shard.was_replaced()) from fault

    def _announce(self, piece: Piece) -> None:
        shard = piece.shard = self._find(piece)
        shard.announce(piece.row, piece.count)

    def _find(self, piece: Piece) -> Shard:
        return self._sources.shard(piece.array, piece.unit, piece.row, piece.count, self._access)

    def _through_zarr(self, zarr: ZarrArrays, shard: Shard, piece: Piece) -> None:
        """zarr-python fills in for what it does not find: what it gives is compared with the checksums in the shard."""
        if not zarr.finds(shard.path, piece.array, piece.unit):  # committed, but not moved to its place yet
            shard.fill(piece.row, piece.target, "always")
            return
        try:
            zarr.read(piece.array, piece.unit, piece.row, piece.target)
        except Exception as error:  # zarr-python has no class of its own for damage
            shard.fill(piece.row, piece.target, "always")  # if the bytes are wrong, this names the row
            raise ShardDamaged(f"zarr-python cannot read it: {error}") from error
        good = matching(piece.target, shard.checksums(piece.row, piece.count))
        if good < piece.count:
            raise ShardDamaged("what zarr-python reads of it does not match its checksum", piece.row + good)


class DiskWatch:
    """Whether this process reads from a disk: where all comes from memory, asking ahead is wasted."""

    def __init__(self) -> None:
        self._blocks = -1

    def was_read(self) -> bool:
        """Whether anything came from a disk since the last call; yes at the first call."""
        blocks, self._blocks = self._blocks, resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        return blocks != self._blocks


def use_zarr(access: Access, root: Path, unit_rows: int) -> ZarrArrays | None:
    """zarr-python's arrays, where they are asked for."""
    return ZarrArrays(root, unit_rows) if access == "zarr" else None
