"""Which clips go to which unit, and what is left to do: decisions only, which `CacheWriter.plan` makes permanent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.records import PlannedClip, Quarantined, UnitWork
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.errors import CacheMismatch, UsageError

ClipRequest = tuple[str, int, str]
"""Clip id, number of segments, signature of its media files."""


@dataclass(frozen=True)
class Plan:
    """What a request comes to.

    Attributes:
        pending: work left, by unit.
        done: number of requested clips that are complete in all requested arrays.
        quarantined: requested clips that failed before and are not tried again.
        changed: requested clips whose files have changed since they were committed; what is committed stays.
        held_back: requested clips that could only be done in a new unit, which would hide arrays that they are
            committed in and that are not requested; id -> all the arrays that have to be requested at once.
    """

    pending: tuple[UnitWork, ...]
    done: int
    quarantined: tuple[Quarantined, ...]
    changed: tuple[str, ...] = ()
    held_back: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Sorting:
    """Sorts requested clips into done, quarantined, pending in a planned unit, and new.

    Args:
        ledger: the ledger, fresh.
        clips: requested clips; ids are unique.
        arrays: requested arrays, all declared.
        retry: whether quarantined clips are tried again.

    Attributes:
        done: number of clips that are complete.
        quarantined: clips that are skipped.
        changed: committed clips whose signature differs from the one they were committed with.
        held_back: clips whose committed arrays a new unit would hide, with the arrays to request at once.
        new: clips that need a new unit, in the order given.
    """

    def __init__(
        self, ledger: Ledger, clips: Sequence[ClipRequest], arrays: Sequence[ArraySpec], *, retry: bool
    ) -> None:
        self._ledger, self._arrays, self._retry = ledger, tuple(arrays), retry
        self._wanted = {array.name for array in arrays}
        self._clips = {clip[0]: clip for clip in clips}
        self._planned: dict[int, list[PlannedClip]] = {}
        self._extended: set[int] = set()
        self.done = 0
        self.quarantined: list[Quarantined] = []
        self.changed: list[str] = []
        self.held_back: dict[str, tuple[str, ...]] = {}
        self.new: list[ClipRequest] = []
        for clip in clips:
            self._sort(*clip)

    def pending(self) -> tuple[UnitWork, ...]:
        """Work in units that are planned already."""
        works = [self._first_work(unit, clips) for unit, clips in self._planned.items()]
        works += [further_work(self._ledger, unit, self._arrays) for unit in self._extended]
        return tuple(sorted((w for w in works if w.clips and w.arrays), key=lambda w: w.unit))

    def _sort(self, clip: str, segments: int, signature: str) -> None:
        ledger = self._ledger
        home = ledger.home.get(clip)
        if home is not None:
            self._check_length(clip, home, segments)
            if any(c.id == clip and c.signature != signature for c in ledger.records[home][0].clips):
                self.changed.append(clip)
            if self._wanted <= ledger.arrays_of(clip, home):
                self.done += 1
                return
        unit = ledger.placement.get(clip)
        committed = unit in ledger.records
        word = ledger.quarantined_in(clip, unit) if unit is not None and committed else None
        if word and not self._retry and word.signature == signature:
            self.quarantined.append(word)
        elif unit is not None and unit == home and not word and self._wanted - ledger.unit_arrays(unit):
            self._extended.add(unit)
        elif home is not None and not ledger.arrays_of(clip, home) <= self._wanted:
            self._hold_back(clip, home)
        elif unit is not None and not committed and ledger.planned[unit][clip][1] == segments:
            start = ledger.planned[unit][clip][0]
            self._planned.setdefault(unit, []).append(PlannedClip(clip, start, segments, signature))
        else:  # also one that was planned and never computed, if the data set has changed since
            self.new.append((clip, segments, signature))

    def _hold_back(self, clip: str, home: int) -> None:
        """Leaves a clip as it is: from a new unit on, only the arrays that are committed there would be seen."""
        self.held_back[clip] = tuple(sorted(self._wanted | self._ledger.arrays_of(clip, home)))
        if word := self._ledger.rejection(clip):
            self.quarantined.append(word)

    def _check_length(self, clip: str, unit: int, segments: int) -> None:
        stored = self._ledger.planned[unit][clip][1]
        if stored != segments:
            raise CacheMismatch(
                f"clip {clip!r} is cached with {stored} segments, this run wants {segments}: "
                "the data set has changed; give another directory with --cache"
            )

    def _first_work(self, unit: int, clips: Iterable[PlannedClip]) -> UnitWork:
        return UnitWork(unit, tuple(sorted(clips, key=lambda c: c.start)), self._arrays)


def nothing_left(
    ledger: Ledger,
    fields: Mapping[str, Mapping[str, Any]],
    clips: Sequence[ClipRequest],
    arrays: Sequence[ArraySpec],
    *,
    retry: bool,
) -> Plan | None:
    """The plan of a request that the cache fulfils already, which needs no right to write; None for any other request.

    Args:
        ledger: the ledger, fresh.
        fields: by modality, what decides the bytes of its features.
        clips: requested clips.
        arrays: requested arrays.
        retry: whether quarantined clips are tried again.
    """
    for modality, wanted in fields.items():
        spec = ledger.specs.get(modality)
        if spec is None or spec.fingerprint != Spec.of(modality, wanted, {}).fingerprint:
            return None
    if any(ledger.arrays.get(array.name) != array for array in arrays):
        return None
    sorting = Sorting(ledger, clips, arrays, retry=retry)
    if sorting.new or sorting.pending():
        return None
    return Plan((), sorting.done, tuple(sorting.quarantined), tuple(sorting.changed), sorting.held_back)


def further_work(ledger: Ledger, unit: int, arrays: Sequence[ArraySpec]) -> UnitWork:
    """The arrays that a committed unit lacks, for every clip that it holds: a shard is written once, hence complete.

    Args:
        ledger: knows the unit's records.
        unit: number of the unit.
        arrays: the arrays wanted.
    """
    taken = ledger.unit_arrays(unit)
    clips = [
        PlannedClip(c.id, c.start, c.segments, c.signature)
        for c in ledger.records[unit][0].clips
        if ledger.home[c.id] == unit and ledger.quarantined_in(c.id, unit) is None
    ]
    return UnitWork(unit, tuple(clips), tuple(array for array in arrays if array.name not in taken))


def check_request(clips: Sequence[ClipRequest], unit_rows: int) -> None:
    """Refuses a request that no unit can hold or that is not well formed.

    Raises:
        UsageError: names the clip.
    """
    seen: set[str] = set()
    for clip, segments, _ in clips:
        if clip in seen:
            raise UsageError(f"clip {clip!r} is named twice: ids must be unique")
        if not clip or "\0" in clip:
            raise UsageError(f"{clip!r} cannot be a clip's id: it is empty or holds a zero byte")
        if segments < 1:
            raise UsageError(f"clip {clip!r} has {segments} segments: at least one is needed")
        if segments > unit_rows:
            raise UsageError(
                f"clip {clip!r} has {segments} segments, but a unit of this cache holds {unit_rows} "
                "and a clip never straddles two: make a new cache with larger units"
            )
        seen.add(clip)


def pack(clips: Iterable[ClipRequest], *, first_unit: int, unit_rows: int) -> list[list[PlannedClip]]:
    """Packs clips in the order given into new units.

    Args:
        clips: clips, none longer than a unit.
        first_unit: number of the first new unit.
        unit_rows: rows of a unit.

    Returns:
        The clips of every new unit with their rows.
    """
    units: list[list[PlannedClip]] = []
    used = unit_rows
    for clip, segments, signature in clips:
        if used + segments > unit_rows:
            units.append([])
            used = 0
        start = (first_unit + len(units) - 1) * unit_rows + used
        units[-1].append(PlannedClip(clip, start, segments, signature))
        used += segments
    return units
