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
from dataclasses import dataclass, field, replace

import numpy as np

from avpipe.pipeline.cache import content, durable
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder
from avpipe.pipeline.cache.putting import RecordPut
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, PlannedClip, Record
from avpipe.pipeline.cache.remaking import ClipMaker, Remake
from avpipe.pipeline.cache.scan import ShardScan
from avpipe.pipeline.cache.shard import ShardWriter
from avpipe.pipeline.cache.values import stored_bytes


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
    return _UnitRepairer(layout, ledger, folder, scans, remake).run()


class _UnitRepairer:
    def __init__(
        self, layout: Layout, ledger: Ledger, folder: WriterFolder, scans: list[ShardScan], remake: Remake
    ) -> None:
        self._layout, self._ledger, self._folder, self._scans = layout, ledger, folder, scans
        self._maker = ClipMaker(ledger, scans, remake)
        self._unit = scans[0].unit
        self._records = len(ledger.records[self._unit])
        self._began = time.time()
        self._broken = [scan for scan in scans if scan.faults]
        self._new: dict[str, ShardWriter] = {}
        self._made: dict[str, set[int]] = {scan.file.array: set() for scan in self._broken}
        self._elements: Counter[str] = Counter()
        self._done = UnitRepair(failed=self._maker.failed)

    def run(self) -> UnitRepair | None:
        try:
            for scan in self._broken:
                array = self._ledger.arrays[scan.file.array]
                path = self._folder.fresh(f"{self._unit}-{array.modality}.{array.tap}")
                self._new[array.name] = ShardWriter(path, array, self._unit, self._ledger.unit_rows)
            clips = self._clips()
            for clip in clips:
                self._write(clip, self._maker.make(clip))
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

    def _write(self, clip: CommittedClip, made: Mapping[str, tuple[np.ndarray, set[int]]]) -> None:
        """A clip's rows into the new shards: sound ones as they are, damaged ones from `made`."""
        planned = PlannedClip(clip.id, clip.start, clip.segments, clip.signature)
        for scan in self._broken:
            name, shard = scan.file.array, self._new[scan.file.array]
            for segment, row in enumerate(self._maker.rows_of(clip)):
                if row in scan.sound:
                    shard.write(row, self._maker.copy(scan, row).data)
                elif name in made and row in made[name][1] & scan.owners.keys():
                    data = stored_bytes(made[name][0][segment], shard.array, planned)
                    shard.write(row, data)
                    self._elements[clip.id] += content.element(clip.id, name, segment, data)
                    self._made[name].add(row)

    def _withdraw_what_is_not_proven(self, clip: CommittedClip) -> None:
        """Takes doubtful rows out again, unless with them the clip's content is the one that was committed."""
        doubts = self._maker.doubts.get(clip.id)
        if doubts is None or (self._is_whole(clip, self._new) and not self._mended(clip).content):
            return
        for name, made in self._made.items():
            doubt = doubts.get(self._ledger.arrays[name].modality)
            if doubt is not None:
                rows = made & set(self._maker.rows_of(clip))
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
        rows, any_made = set(self._maker.rows_of(clip)), False
        for scan in self._broken:
            damaged = scan.damaged & rows
            if damaged and (scan.file.array not in kept or not damaged <= self._made[scan.file.array]):
                return False
            any_made |= bool(damaged)
        return any_made

    def _mended(self, clip: CommittedClip) -> CommittedClip:
        """A clip as the repair record has it, with the difference of its rows' sum to what the unit's records say."""
        total = self._elements[clip.id] + sum(scan.elements.get(clip.id, 0) for scan in self._scans)
        return replace(
            clip, provenance=self._maker.provenance[clip.id], content=(total - clip.content) % content.MODULUS
        )
