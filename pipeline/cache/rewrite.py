"""Rewriting damaged shards: sound rows are kept, damaged ones made again, and the whole takes the old file's place.

A rewrite is a commit like any other: temporaries, then a record, then a rename. The record says that it repairs, so its
files take the place of the earlier ones; what it changes is for readers to see, and `kill -9` at any moment leaves the
damaged file or the repaired one. Rows that cannot be made again stay missing: an error for readers, never zeros.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from avpipe.pipeline.cache import content, durable
from avpipe.pipeline.cache.files import Shard, ShardDamaged
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder
from avpipe.pipeline.cache.putting import RecordPut
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, PlannedClip, Record
from avpipe.pipeline.cache.scan import ShardScan, scan_units
from avpipe.pipeline.cache.shard import ShardWriter
from avpipe.pipeline.cache.values import stored_bytes
from avpipe.pipeline.errors import AvpipeError, InputRejected


class Remake(Protocol):
    """Makes the features of a clip again."""

    def __call__(
        self, clip: CommittedClip, arrays: Collection[str], raw: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Features and their provenance.

        Args:
            clip: the clip as it was committed.
            arrays: names of the arrays wanted, such as `visual/blocks.3`.
            raw: stored frames and samples that are sound, by array name, [T, ...].

        Returns:
            Array name -> [T, *row_shape] for all of `arrays`, and what made them.

        Raises:
            InputRejected: it cannot be done.
        """


@dataclass(frozen=True)
class UnitDamage:
    """What is damaged in one unit.

    Attributes:
        unit: its number.
        scans: a scan of each of its shards.
    """

    unit: int
    scans: tuple[ShardScan, ...]

    @property
    def broken(self) -> tuple[ShardScan, ...]:
        """The shards that need repair."""
        return tuple(scan for scan in self.scans if scan.faults)

    @property
    def clips(self) -> set[str]:
        """Clips with damaged rows."""
        return {scan.owners[row][0] for scan in self.broken for row in scan.damaged}


@dataclass(frozen=True)
class UnitRepair:
    """What a repair of one unit did.

    Attributes:
        unit: its number.
        shards: paths of the files that were replaced.
        rows: rows that were made again.
        changed: clips whose new rows are not the bytes that were lost.
        failed: clips whose rows could not be made again, with the reason.
    """

    unit: int
    shards: tuple[str, ...]
    rows: int
    changed: tuple[str, ...]
    failed: dict[str, str]


def damaged_units(layout: Layout, ledger: Ledger) -> Iterator[UnitDamage]:
    """Scans the whole cache for units with damaged shards; one item per unit, `broken` empty where it is sound."""
    for unit, scans in scan_units(layout, ledger):
        yield UnitDamage(unit, tuple(scans))


def repair_unit(
    layout: Layout, ledger: Ledger, folder: WriterFolder, damage: UnitDamage, remake: Remake | None
) -> UnitRepair | None:
    """Replaces the damaged shards of one unit.

    Args:
        layout: paths of the cache.
        ledger: its ledger, recovered: no temporary of a committed file is left.
        folder: the writer's temporaries.
        damage: from `damaged_units`.
        remake: makes features again; None where no row is damaged.

    Returns:
        None where somebody else has committed to the unit meanwhile; look again.
    """
    return _UnitRepairer(layout, ledger, folder, damage).run(remake)


class _UnitRepairer:
    def __init__(self, layout: Layout, ledger: Ledger, folder: WriterFolder, damage: UnitDamage) -> None:
        self._layout, self._ledger, self._folder, self._damage = layout, ledger, folder, damage
        self._base = damage.unit * ledger.unit_rows
        self._records = len(ledger.records[damage.unit])
        self._began = time.time()
        self._old = {scan.file.array: self._open(scan.file) for scan in damage.scans}
        self._new: dict[str, ShardWriter] = {}
        self._elements: dict[str, int] = {}
        self._made: list[CommittedClip] = []
        self._failed: dict[str, str] = {}
        self._rows = 0

    def run(self, remake: Remake | None) -> UnitRepair | None:
        try:
            for scan in self._damage.broken:
                array = self._ledger.arrays[scan.file.array]
                path = self._folder.fresh(f"{self._damage.unit}-{array.modality}.{array.tap}")
                self._new[array.name] = ShardWriter(path, array, self._damage.unit, self._ledger.unit_rows)
            damaged = self._damage.clips
            for clip in self._clips():
                made = self._make(clip, remake) if remake and clip.id in damaged else {}
                self._write(clip, made)
            return self._commit()
        finally:
            for shard in self._new.values():
                shard.discard()

    def _clips(self) -> list[CommittedClip]:
        """Clips with rows in a broken shard, by row, with all that the unit's records say of them."""
        found: dict[str, CommittedClip] = {}
        for record in self._ledger.records[self._damage.unit]:
            for clip in record.clips:
                known = found.get(clip.id, clip)
                masks = {**clip.masks, **known.masks}
                total = clip.content + (known.content if clip.id in found else 0)
                found[clip.id] = replace(known, masks=masks, content=total)
        return sorted(found.values(), key=lambda clip: clip.start)

    def _make(self, clip: CommittedClip, remake: Remake) -> dict[str, np.ndarray]:
        """New values of a clip in every broken shard in which it has damaged rows; none where that fails."""
        wanted = {
            scan.file.array for scan in self._damage.broken if any(scan.owners[r][0] == clip.id for r in scan.damaged)
        }
        try:
            values, provenance = remake(clip, wanted, self._raw(clip))
            for name in wanted:
                _require_shape(values[name], self._ledger.arrays[name], clip)
        except InputRejected as error:
            self._failed[clip.id] = str(error)
            return {}
        self._made.append(replace(clip, provenance=provenance))
        return {name: values[name] for name in wanted}

    def _raw(self, clip: CommittedClip) -> dict[str, np.ndarray]:
        """Stored frames and samples of a clip, where all of its rows are sound."""
        found = {}
        for scan in self._damage.scans:
            array, rows = self._ledger.arrays[scan.file.array], self._rows_of(clip)
            if array.tap in ("frames", "samples") and set(rows) <= scan.sound:
                found[array.name] = np.stack([self._copy(scan.file.array, row) for row in rows]).reshape(
                    clip.segments, *array.row_shape
                )
        return found

    def _write(self, clip: CommittedClip, made: Mapping[str, np.ndarray]) -> None:
        """A clip's rows into the new shards: sound ones as they are, damaged ones from `made`."""
        planned = PlannedClip(clip.id, clip.start, clip.segments, clip.signature)
        for scan in self._damage.broken:
            name, shard = scan.file.array, self._new[scan.file.array]
            for segment, row in enumerate(self._rows_of(clip)):
                if row in scan.sound:
                    shard.write(row, self._copy(name, row).reshape(-1).view(np.uint8).data)
                elif name in made:
                    data = stored_bytes(made[name][segment], shard.array, planned)
                    shard.write(row, data)
                    element = content.element(clip.id, name, segment, data)
                    self._elements[clip.id] = self._elements.get(clip.id, 0) + element
                    self._rows += 1

    def _commit(self) -> UnitRepair | None:
        files = []
        for name, shard in self._new.items():
            size, digest, stamp = shard.finish()
            temporary = str(shard.path.relative_to(self._layout.temporaries))
            files.append(CommittedFile(name, temporary, shard.array.shard_key(self._damage.unit), size, digest, stamp))
        durable.sync_folder(self._folder.path)
        if len(self._ledger.refresh_unit(self._damage.unit)) != self._records:
            return None
        clips = tuple(replace(clip, content=self._difference(clip)) for clip in self._made)
        record = Record(
            unit=self._damage.unit,
            sequence=self._records,
            writer=self._folder.name,
            began=self._began,
            committed=time.time(),
            work_seconds={},
            clips=clips,
            quarantined=(),
            files=tuple(files),
            repairs=True,
        )
        put = RecordPut(self._layout, self._folder, record)
        shards, self._new = self._new, {}  # from here on recovery decides about the temporaries
        if not put.link():
            self._new = shards
            return None
        put.publish()
        return UnitRepair(
            unit=self._damage.unit,
            shards=tuple(file.path for file in files),
            rows=self._rows,
            changed=tuple(clip.id for clip in clips if clip.content),
            failed=self._failed,
        )

    def _difference(self, clip: CommittedClip) -> int:
        """What a clip's rows sum to now, less what the unit's records say: 0 where the lost bytes are back."""
        sound = sum(scan.elements.get(clip.id, 0) for scan in self._damage.scans)
        return (sound + self._elements.get(clip.id, 0) - clip.content) % content.MODULUS

    def _rows_of(self, clip: CommittedClip) -> range:
        first = clip.start - self._base
        return range(first, first + clip.segments)

    def _open(self, file: CommittedFile) -> Shard | None:
        with suppress(ShardDamaged):
            array = self._ledger.arrays[file.array]
            return Shard(self._layout, file, array, self._ledger.unit_rows, "pread")
        return None

    def _copy(self, name: str, row: int) -> np.ndarray:
        """A row that was found sound, read and checked again: [*row_shape]."""
        array, shard = self._ledger.arrays[name], self._old[name]
        data = np.empty(array.row_bytes, dtype=np.uint8)
        if shard is None or not shard.copy_row(row, data, check=True):
            raise AvpipeError(
                f"{self._layout.root}: row {self._base + row} of {name} was sound a moment ago and is not any more: "
                "the disk or another process is damaging this cache while it is repaired; check that first"
            )
        return data.view(np.dtype(array.dtype).newbyteorder("<")).reshape(array.row_shape)


def _require_shape(value: np.ndarray, array: ArraySpec, clip: CommittedClip) -> None:
    if value.shape != (clip.segments, *array.row_shape):
        raise InputRejected(
            f"clip {clip.id!r} gives {array.name} of shape {value.shape} now, "
            f"{(clip.segments, *array.row_shape)} was committed",
            stage="repair",
            hint="restore its media file as it was",
        )
