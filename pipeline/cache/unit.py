"""The writer of one unit: rows into temporaries, then seal, record, publish."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from avpipe.pipeline.cache import content, durable
from avpipe.pipeline.cache.joining import may_join
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder
from avpipe.pipeline.cache.putting import RecordPut
from avpipe.pipeline.cache.records import (
    CommittedClip,
    CommittedFile,
    PlannedClip,
    Quarantined,
    Record,
    UnitWork,
)
from avpipe.pipeline.cache.shard import ShardWriter
from avpipe.pipeline.cache.values import mask_text, stored_bytes
from avpipe.pipeline.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from typing import Self


class UnitWriter:
    """Writes one unit; a context manager that leaves no temporaries behind when the unit was not committed.

    Rows may come in any order and go straight to disk: memory stays flat whatever the size of the unit. `commit` is
    `seal`, `put_record` and `publish`, one after the other; the unit is committed from the moment that `put_record`
    succeeds.

    Made by `CacheWriter.unit`.
    """

    def __init__(self, layout: Layout, ledger: Ledger, folder: WriterFolder, work: UnitWork) -> None:
        self.work = work
        self._layout, self._ledger, self._folder = layout, ledger, folder
        self._began = time.time()
        self._base = work.unit * ledger.unit_rows
        self._owner = {row: clip for clip in work.clips for row in range(clip.start, clip.start + clip.segments)}
        self._content: dict[str, dict[str, int]] = {clip.id: {} for clip in work.clips}
        self._clips: dict[str, CommittedClip] = {}
        self._rejected: dict[str, Quarantined] = {}
        self._shards: dict[str, ShardWriter] = {}
        self._files: list[CommittedFile] = []
        self._put: RecordPut
        self._mine_to_delete = True
        try:
            for array in work.arrays:
                path = folder.fresh(f"{work.unit}-{array.modality}.{array.tap}")
                self._shards[array.name] = ShardWriter(path, array, work.unit, ledger.unit_rows)
        except BaseException:  # nobody gets this object, so nobody else can tidy up
            self.discard()
            raise

    def write(self, array: str, row: int, value: np.ndarray) -> None:
        """Appends one row.

        Args:
            array: name of an array of the unit's work.
            row: row in the array (not in the unit), of a clip that is not done yet.
            value: the array's `row_shape` and `dtype`.

        Raises:
            UsageError: wrong array, row, shape or type, or a value that is not finite.
            EnvironmentLacking: no space, no permission.
        """
        shard = self._shards.get(array)
        if shard is None:
            raise unknown_name("array of this unit's work", array, self._shards)
        clip = self._owner.get(row)
        if clip is None or clip.id in self._clips or clip.id in self._rejected or shard.has(row - self._base):
            state = "belongs to no clip of" if clip is None else "is closed or written already in"
            raise UsageError(f"row {row} of {array} {state} unit {self.work.unit}")
        data = stored_bytes(value, shard.array, clip)
        shard.write(row - self._base, data)
        sums = self._content[clip.id]
        sums[array] = (sums.get(array, 0) + content.element(clip.id, array, row - clip.start, data)) % content.MODULUS

    def clip_done(self, clip: PlannedClip, masks: Mapping[str, np.ndarray], provenance: Mapping[str, str]) -> None:
        """Marks a clip as complete: every one of its rows has been written in every array.

        Args:
            clip: a clip of the unit's work.
            masks: modality -> bool [T], True where there was media; one for each modality of the arrays.
            provenance: decoder, library versions, device: shown, not part of the fingerprint.
        """
        self._require_open(clip)
        for name, shard in self._shards.items():
            missing = [r for r in range(clip.start, clip.start + clip.segments) if not shard.has(r - self._base)]
            if missing:
                raise UsageError(
                    f"clip {clip.id!r} is not complete: {name} lacks its segment {missing[0] - clip.start}"
                )
        for modality in {array.modality for array in self.work.arrays}:
            if modality not in masks:
                raise UsageError(f"clip {clip.id!r} needs a mask for {modality}")
        self._clips[clip.id] = CommittedClip(
            id=clip.id,
            start=clip.start,
            segments=clip.segments,
            signature=clip.signature,
            masks={modality: mask_text(clip, modality, mask) for modality, mask in sorted(masks.items())},
            provenance=dict(provenance),
            content=0,  # added up when it is known which arrays are committed
        )

    def reject(
        self,
        clip: PlannedClip,
        *,
        stage: str,
        reason: str,
        hint: str = "",
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Quarantines a clip: its rows, if some were written, are taken out of the unit.

        Args:
            clip: a clip of the unit's work.
            stage: where it failed, one of `avpipe.pipeline.quarantine.STAGES`.
            reason: what is wrong, one line.
            hint: what the user can do.
            provenance: decoder, library versions, device.
        """
        self._require_open(clip)
        for shard in self._shards.values():
            shard.drop(range(clip.start - self._base, clip.start - self._base + clip.segments))
        self._rejected[clip.id] = Quarantined(
            clip=clip.id,
            stage=stage,
            reason=reason,
            hint=hint,
            signature=clip.signature,
            attempts=self._ledger.attempts(clip.id) + 1,
            unit=self.work.unit,
            provenance=dict(provenance or {}),
        )

    def commit(self, work_seconds: Mapping[str, float] | None = None) -> bool:
        """Commits the unit: every clip is done or rejected by now.

        Args:
            work_seconds: seconds of work by stage, for rates and estimates.

        Returns:
            False where somebody else had committed it; then nothing of this writer's work is kept.
        """
        self.seal()
        if not self.put_record(work_seconds or {}):
            self.discard()
            return False
        self.publish()
        return True

    def seal(self) -> None:
        """First step: finishes and syncs the temporaries."""
        undecided = [c.id for c in self.work.clips if c.id not in self._clips and c.id not in self._rejected]
        if undecided:
            raise UsageError(f"unit {self.work.unit}: clip {undecided[0]!r} is neither done nor rejected")
        if not self._clips:  # every clip was rejected: there is nothing to keep
            self.discard()
            return
        for name, shard in self._shards.items():
            size, digest, stamp = shard.finish()
            temporary = str(shard.path.relative_to(self._layout.temporaries))
            final = shard.array.shard_key(self.work.unit)
            self._files.append(CommittedFile(name, temporary, final, size, digest, stamp))
        durable.sync_folder(self._folder.path)

    def put_record(self, work_seconds: Mapping[str, float]) -> bool:
        """Second step: puts the commit record. From here on the unit is committed, whatever happens.

        Returns:
            False where other writers have committed all of it, or other clips.

        Raises:
            EnvironmentLacking: a temporary is gone or was cut; nothing is committed then.
        """
        while True:
            earlier = self._ledger.refresh_unit(self.work.unit)
            taken = {file.array for record in earlier for file in record.files}
            kept = [file for file in self._files if file.array not in taken]
            raced = bool(taken & self._shards.keys())
            if not may_join(earlier, self._clips.values(), self._rejected, raced=raced) or (self._clips and not kept):
                return False
            record = self._record(earlier, kept, work_seconds)
            # An error while linking leaves it open whether the record exists: then recovery decides.
            put = RecordPut(self._layout, self._folder, record)
            self._mine_to_delete = False
            if put.link():
                self._put = put
                self._drop_files(taken)
                return True
            self._mine_to_delete = True

    def publish(self) -> None:
        """Third step: moves the temporaries to their places and keeps a twin of the record.

        Whoever opens the cache next would do both as well.
        """
        self._put.publish()

    def discard(self) -> None:
        """Deletes this unit's temporaries, unless a record may name them."""
        if self._mine_to_delete:
            for shard in self._shards.values():
                shard.discard()
            self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _require_open(self, clip: PlannedClip) -> None:
        if clip.id not in self._content or clip.id in self._clips or clip.id in self._rejected:
            raise UsageError(f"clip {clip.id!r} is not part of unit {self.work.unit}, or was decided already")

    def _record(self, earlier: list[Record], kept: list[CommittedFile], work_seconds: Mapping[str, float]) -> Record:
        rejected = list(self._rejected.values())
        if earlier:  # what the first record rejected is rejected already
            fixed = {c.id for c in earlier[0].clips}
            rejected = [entry for entry in rejected if entry.clip in fixed]
        names = [file.array for file in kept]
        clips = [
            replace(clip, content=sum(self._content[clip.id][name] for name in names) % content.MODULUS)
            for clip in self._clips.values()
        ]
        return Record(
            unit=self.work.unit,
            sequence=len(earlier),
            writer=self._folder.name,
            began=self._began,
            committed=time.time(),
            work_seconds=dict(work_seconds),
            clips=tuple(sorted(clips, key=lambda c: c.start)),
            quarantined=tuple(rejected),
            files=tuple(kept),
        )

    def _drop_files(self, taken: set[str]) -> None:
        for name in taken & self._shards.keys():
            self._shards[name].discard()
        self._files = [file for file in self._files if file.array not in taken]
