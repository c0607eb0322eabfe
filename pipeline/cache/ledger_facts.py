"""What a ledger says, whatever it was read from: what is planned, what is committed, what is quarantined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, Quarantined, Record


class LedgerFacts:
    """Plans and records put together.

    Attributes:
        planned: unit -> clip id -> (first row, segments).
        placement: clip id -> the last unit that it was planned in.
        records: unit -> its commit records in order.
        held: unit -> clip id -> arrays in which it is committed there.
        home: clip id -> the last unit that holds it committed; rows elsewhere are superseded.
    """

    def __init__(self) -> None:
        self.planned: dict[int, Mapping[str, tuple[int, int]]] = {}
        self.placement: dict[str, int] = {}
        self.records: dict[int, list[Record]] = {}
        self.held: dict[int, dict[str, frozenset[str]]] = {}
        self.home: dict[str, int] = {}
        self._last_word: dict[str, tuple[tuple[int, int], Quarantined | None]] = {}

    @property
    def units(self) -> int:
        """Number of units planned."""
        return len(self.planned)

    def arrays_of(self, clip: str, unit: int) -> frozenset[str]:
        """Arrays in which a clip is committed in a unit."""
        return self.held.get(unit, {}).get(clip, frozenset())

    def unit_arrays(self, unit: int) -> set[str]:
        """Arrays that have a shard file in a unit."""
        return set(self.files(unit))

    def current(self, unit: int, array: str) -> CommittedFile:
        """The shard file of an array in a unit: the last that was committed, as a repair takes an earlier one's place.

        Raises:
            KeyError: the unit has no such shard.
        """
        return self.files(unit)[array]

    def files(self, unit: int) -> dict[str, CommittedFile]:
        """The shard files of a unit by array, without those that a repair has replaced."""
        return {file.array: file for record in self.records.get(unit, ()) for file in record.files}

    def clips_in(self, unit: int, array: str) -> tuple[CommittedClip, ...]:
        """Clips that have rows in a shard, by the record that committed it first; superseded ones too."""
        for record in self.records.get(unit, ()):
            if any(file.array == array for file in record.files):
                return record.clips
        return ()

    def living(self, unit: int) -> Iterator[tuple[CommittedClip, Record]]:
        """Committed clips of a unit, once per record, without those that a later unit supersedes."""
        for record in self.records.get(unit, ()):
            for clip in record.clips:
                if self.home[clip.id] == unit:
                    yield clip, record

    def attempts(self, clip: str) -> int:
        """How often a clip has failed."""
        word = self.rejection(clip)
        return word.attempts if word else 0

    def rejection(self, clip: str) -> Quarantined | None:
        """The entry of a clip whose last word is a rejection, wherever that was."""
        return self._last_word.get(clip, (None, None))[1]

    def quarantined_in(self, clip: str, unit: int) -> Quarantined | None:
        """The entry of a clip that was rejected in a unit, if the last word on it is that one."""
        key, word = self._last_word.get(clip, ((-1, -1), None))
        return word if key[0] == unit else None

    def quarantined(self) -> tuple[Quarantined, ...]:
        """Clips whose last word is a rejection, by unit."""
        words = [word for _, word in self._last_word.values() if word]
        return tuple(sorted(words, key=lambda q: (q.unit, q.clip)))

    def plan_unit(self, unit: int, clips: Iterable[tuple[str, int, int]]) -> None:
        """Takes in where a unit's clips lie: id, first row, segments."""
        self.planned[unit] = {clip: (start, segments) for clip, start, segments in clips}
        self.placement.update(dict.fromkeys(self.planned[unit], unit))

    def take(self, record: Record) -> None:
        """Takes in a commit record, the next of its unit."""
        unit = record.unit
        self.records.setdefault(unit, []).append(record)
        held, names = self.held.setdefault(unit, {}), frozenset(f.array for f in record.files)
        for clip in record.clips if not record.repairs else ():  # a repair restores what was held already
            held[clip.id] = held[clip.id] | names if clip.id in held else names
            self.home[clip.id] = max(unit, self.home.get(clip.id, unit))
            self._remember(clip.id, record, None)
        for entry in record.quarantined:
            self._remember(entry.clip, record, entry)

    def _remember(self, clip: str, record: Record, word: Quarantined | None) -> None:
        key = (record.unit, record.sequence)
        if key >= self._last_word.get(clip, ((-1, -1), None))[0]:
            self._last_word[clip] = key, word
