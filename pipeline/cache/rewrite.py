"""Rewriting damaged shards: sound rows are kept, damaged ones made again, and the whole takes the old file's place.

A rewrite is a commit like any other: temporaries, then a record, then a rename. The record says that it repairs, so its
files take the place of the earlier ones; what it changes is for readers to see, and `kill -9` at any moment leaves the
damaged file or the repaired one. No rewrite has fewer readable rows than the file had: where that could be, the file is
left alone. Rows that cannot be made again stay missing: an error for readers, never zeros.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from avpipe.pipeline.cache import content, durable
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder
from avpipe.pipeline.cache.putting import RecordPut
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, PlannedClip, Record
from avpipe.pipeline.cache.scan import ShardScan
from avpipe.pipeline.cache.shard import ShardWriter
from avpipe.pipeline.cache.shardcheck import read_row
from avpipe.pipeline.cache.values import stored_bytes
from avpipe.pipeline.errors import AvpipeError, InputRejected

Values = Mapping[str, np.ndarray]
RAW_TAPS = ("frames", "samples")
"""What taps are made from: stored beside them, one of each modality."""


@dataclass(frozen=True)
class Remade:
    """Features that were made again.

    Attributes:
        values: array name -> [T, *row_shape].
        provenance: what made them.
        doubt: why they may not be those that were lost, such as media files with another time stamp; "" where nothing
            speaks against it. Doubtful ones are taken only if the clip's content proves them.
    """

    values: dict[str, np.ndarray]
    provenance: dict[str, str]
    doubt: str = ""


class Remake(Protocol):
    """Makes the features of a clip again."""

    def __call__(self, clip: CommittedClip, arrays: Collection[str], raw: Values) -> Remade:
        """Features of all of `arrays`.

        Args:
            clip: the clip as it was committed.
            arrays: names of the arrays wanted, all of one modality, such as `visual/blocks.3`.
            raw: stored frames and samples to make them from, by array name, [T, ...]; what is not here is decoded.

        Raises:
            InputRejected: it cannot be done.
        """


@dataclass
class UnitRepair:
    """What a repair of one unit did.

    Attributes:
        shards: paths of the files that were replaced.
        rows: rows that were made again.
        changed: clips whose new rows are not the bytes that were lost.
        failed: what could not be repaired, a clip or a file, with the reason.
    """

    shards: list[str] = field(default_factory=list)
    rows: int = 0
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def repair_unit(
    layout: Layout, ledger: Ledger, folder: WriterFolder, scans: list[ShardScan], remake: Remake
) -> UnitRepair | None:
    """Replaces the damaged shards of one unit.

    Args:
        layout: paths of the cache.
        ledger: its ledger, refreshed and recovered before the scans: no temporary of a committed file is left.
        folder: the writer's temporaries.
        scans: a scan of each shard of the unit, made with this ledger.
        remake: makes features again.

    Returns:
        None where somebody else has committed to the unit meanwhile; look again.
    """
    locked = [scan for scan in scans if scan.look.state == "unreadable"]
    if locked:  # its bytes may be sound: nothing is decided about them
        return UnitRepair(failed={scan.file.path: f"{scan.faults[0][1]}: mend that first" for scan in locked})
    return _UnitRepairer(layout, ledger, folder, scans).run(remake)


class _UnitRepairer:
    def __init__(self, layout: Layout, ledger: Ledger, folder: WriterFolder, scans: list[ShardScan]) -> None:
        self._layout, self._ledger, self._folder, self._scans = layout, ledger, folder, scans
        self._unit = scans[0].unit
        self._base = self._unit * ledger.unit_rows
        self._records = len(ledger.records[self._unit])
        self._began = time.time()
        self._broken = [scan for scan in scans if scan.faults]
        self._new: dict[str, ShardWriter] = {}
        self._made: dict[str, set[int]] = {scan.file.array: set() for scan in self._broken}
        self._elements: Counter[str] = Counter()
        self._provenance: dict[str, dict[str, str]] = {}
        self._doubts: dict[str, str] = {}
        self._done = UnitRepair()

    def run(self, remake: Remake) -> UnitRepair | None:
        try:
            for scan in self._broken:
                array = self._ledger.arrays[scan.file.array]
                path = self._folder.fresh(f"{self._unit}-{array.modality}.{array.tap}")
                self._new[array.name] = ShardWriter(path, array, self._unit, self._ledger.unit_rows)
            clips = self._clips()
            for clip in clips:
                self._write(clip, self._make(clip, remake))
                self._withdraw_what_is_not_proven(clip)
            kept = [scan for scan in self._broken if self._is_gain(scan)]
            return self._commit(kept, clips) if kept else self._done
        finally:
            for shard in self._new.values():
                shard.discard()

    def _clips(self) -> list[CommittedClip]:
        """Clips of the unit, by row, with all that its records say of them together."""
        found: dict[str, CommittedClip] = {}
        for record in self._ledger.records[self._unit]:
            for clip in record.clips:
                known = found.get(clip.id, clip)
                masks = {**clip.masks, **known.masks}
                total = clip.content + (known.content if clip.id in found else 0)
                found[clip.id] = replace(known, masks=masks, content=total)
        return sorted(found.values(), key=lambda clip: clip.start)

    def _make(self, clip: CommittedClip, remake: Remake) -> dict[str, tuple[np.ndarray, set[int]]]:
        """New values of a clip for every broken shard in which it has damaged rows, and the rows that they are for."""
        rows = set(self._rows_of(clip))
        wanted = [self._ledger.arrays[scan.file.array] for scan in self._broken if scan.damaged & rows]
        made: dict[str, tuple[np.ndarray, set[int]]] = {}
        for modality in sorted({array.modality for array in wanted}):
            arrays = [array for array in wanted if array.modality == modality]
            try:
                values, good = self._remade(clip, arrays, remake, {}), rows
            except InputRejected as error:
                self._done.failed[clip.id] = str(error)
                arrays = [array for array in arrays if array.tap not in RAW_TAPS]
                values, good = self._from_what_is_left(clip, arrays, remake)
            made |= {array.name: (values[array.name], good) for array in arrays if good}
        return made

    def _remade(
        self, clip: CommittedClip, arrays: list[ArraySpec], remake: Remake, raw: Values
    ) -> dict[str, np.ndarray]:
        whole = {name: values for name, (values, good) in self._raw(clip).items() if len(good) == clip.segments}
        remade = remake(clip, {array.name for array in arrays}, {**whole, **raw})
        for array in arrays:
            _require_storable(remade.values[array.name], array, clip)
        self._provenance.setdefault(clip.id, {}).update(remade.provenance)
        if remade.doubt:
            self._doubts[clip.id] = remade.doubt
        return remade.values

    def _from_what_is_left(
        self, clip: CommittedClip, arrays: list[ArraySpec], remake: Remake
    ) -> tuple[dict[str, np.ndarray], set[int]]:
        """Taps of the segments whose frame or sound is still sound; a segment's features do not depend on others."""
        stored = {name: part for name, part in self._raw(clip).items() if part[1]}
        parts = [stored[f"{array.modality}/{tap}"] for array in arrays[:1] for tap in RAW_TAPS
                 if f"{array.modality}/{tap}" in stored]  # fmt: skip
        if not parts:
            return {}, set()
        with suppress(InputRejected):
            raw = {name: values for name, (values, _) in stored.items()}
            return self._remade(clip, arrays, remake, raw), parts[0][1]
        return {}, set()

    def _raw(self, clip: CommittedClip) -> dict[str, tuple[np.ndarray, set[int]]]:
        """Stored frames and samples of a clip, zeros where they are damaged, and the rows that are sound."""
        found = {}
        for scan in self._scans:
            array, rows = self._ledger.arrays[scan.file.array], self._rows_of(clip)
            good = set(rows) & scan.sound
            if array.tap in RAW_TAPS and set(rows) <= scan.owners.keys():
                data = np.zeros((clip.segments, array.row_bytes), dtype=np.uint8)
                for segment, row in enumerate(rows):
                    if row in good:
                        data[segment] = self._copy(scan, row)
                values = data.view(np.dtype(array.dtype).newbyteorder("<")).reshape(clip.segments, *array.row_shape)
                found[array.name] = values, good
        return found

    def _write(self, clip: CommittedClip, made: Mapping[str, tuple[np.ndarray, set[int]]]) -> None:
        """A clip's rows into the new shards: sound ones as they are, damaged ones from `made`."""
        planned = PlannedClip(clip.id, clip.start, clip.segments, clip.signature)
        for scan in self._broken:
            name, shard = scan.file.array, self._new[scan.file.array]
            for segment, row in enumerate(self._rows_of(clip)):
                if row in scan.sound:
                    shard.write(row, self._copy(scan, row).data)
                elif name in made and row in made[name][1] & scan.owners.keys():
                    data = stored_bytes(made[name][0][segment], shard.array, planned)
                    shard.write(row, data)
                    self._elements[clip.id] += content.element(clip.id, name, segment, data)
                    self._made[name].add(row)

    def _withdraw_what_is_not_proven(self, clip: CommittedClip) -> None:
        """Takes doubtful rows out again, unless with them the clip's content is the one that was committed."""
        doubt = self._doubts.get(clip.id)
        if doubt is None or (self._is_whole(clip, self._new) and not self._mended(clip).content):
            return
        for name, made in self._made.items():
            rows = made & set(self._rows_of(clip))
            self._new[name].drop(rows)
            made -= rows
        self._done.failed[clip.id] = doubt

    def _is_gain(self, scan: ShardScan) -> bool:
        """Whether the new file is worth more than the old one, and lacks nothing that could be had from that."""
        made, lacking = self._made[scan.file.array], scan.damaged - self._made[scan.file.array]
        if lacking and scan.look.state == "opaque":
            self._done.failed.setdefault(
                scan.file.path,
                f"{scan.look.faults[0][1]}. {len(lacking)} of its rows cannot be made again, so it was left as it is",
            )
            return False
        return bool(made) or not lacking

    def _commit(self, kept: list[ShardScan], clips: list[CommittedClip]) -> UnitRepair | None:
        files = [self._finished(self._new[scan.file.array]) for scan in kept]
        for name in self._new.keys() - {file.array for file in files}:
            self._new.pop(name).discard()
        durable.sync_folder(self._folder.path)
        if len(self._ledger.refresh_unit(self._unit)) != self._records:
            return None
        names = {file.array for file in files}
        mended = tuple(self._mended(clip) for clip in clips if self._is_whole(clip, names))
        record = Record(
            unit=self._unit,
            sequence=self._records,
            writer=self._folder.name,
            began=self._began,
            committed=time.time(),
            work_seconds={},
            clips=mended,
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
        self._done.shards = [file.path for file in files]
        self._done.rows = sum(len(self._made[name]) for name in names)
        self._done.changed = [clip.id for clip in mended if clip.content]
        return self._done

    def _finished(self, shard: ShardWriter) -> CommittedFile:
        size, digest, stamp = shard.finish()
        temporary = str(shard.path.relative_to(self._layout.temporaries))
        return CommittedFile(shard.array.name, temporary, shard.array.shard_key(self._unit), size, digest, stamp)

    def _is_whole(self, clip: CommittedClip, kept: Collection[str]) -> bool:
        """Whether rows of a clip were made again, and none is missing now: only then its content is known."""
        rows, any_made = set(self._rows_of(clip)), False
        for scan in self._broken:
            damaged = scan.damaged & rows
            if damaged and (scan.file.array not in kept or not damaged <= self._made[scan.file.array]):
                return False
            any_made |= bool(damaged)
        return any_made

    def _mended(self, clip: CommittedClip) -> CommittedClip:
        """A clip as the repair record has it, with the difference of its rows' sum to what the unit's records say."""
        total = self._elements[clip.id] + sum(scan.elements.get(clip.id, 0) for scan in self._scans)
        return replace(clip, provenance=self._provenance[clip.id], content=(total - clip.content) % content.MODULUS)

    def _rows_of(self, clip: CommittedClip) -> range:
        first = clip.start - self._base
        return range(first, first + clip.segments)

    def _copy(self, scan: ShardScan, row: int) -> np.ndarray:
        """A row that was found sound, read and checked again: uint8 [bytes of a row]."""
        data = np.empty(self._ledger.arrays[scan.file.array].row_bytes, dtype=np.uint8)
        if not read_row(scan.look.path, int(scan.look.offsets[row]), data):
            raise AvpipeError(
                f"row {row} of {scan.look.path} was sound a moment ago and is not any more: the disk or another "
                "process is changing this cache while it is repaired; check that first"
            )
        return data


def _require_storable(value: np.ndarray, array: ArraySpec, clip: CommittedClip) -> None:
    if value.shape != (clip.segments, *array.row_shape):
        raise InputRejected(
            f"clip {clip.id!r} gives {array.name} of shape {value.shape} now, "
            f"{(clip.segments, *array.row_shape)} was committed",
            stage="repair",
            hint="restore its media file as it was",
        )
    if array.is_float and not np.isfinite(value).all():
        raise InputRejected(
            f"clip {clip.id!r} gives {array.name} with values that {array.dtype} cannot hold",
            stage="repair",
            hint="repair on the device that made the cache",
        )
