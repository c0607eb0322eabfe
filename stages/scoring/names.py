"""Which sample an id in somebody's predictions means."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from avpipe.pipeline.errors import UsageError, shown
from avpipe.pipeline.manifest import Dataset, Sample

SHOWN = 3
"""Samples that a message names at most."""
_LONG = 200
"""Characters of a name that it shows."""


class Names:
    """The samples of a split by name.

    A sample is named by its id, or by its clip's id, with or without the subset in front, where only one sample has it.

    Args:
        dataset: the dataset.
        split: `test`, `val` or `train`.

    Attributes:
        samples: those of the split, in official order, then those of other splits, which are known but not scored.
            Places in it are what the methods return.
        count: how many are of the split.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self.dataset, self.split = dataset, split
        own = dataset.split(split)
        self.samples = (*own, *(sample for sample in dataset.samples if sample.split != split))
        self.count = len(own)
        self._own = _Index(self.samples, range(self.count))
        self._others: _Index | None = None
        self._numbers: dict[int, int] = {}

    def place(self, name: str, where: str) -> int:
        """The sample that is meant: one of the split where there is any, else one of another split.

        Args:
            name: as written in the predictions.
            where: the file, and the place in it, for the error.

        Raises:
            UsageError: none is meant, or one of several might be.
        """
        meant = self._own.meant(name)
        if not meant:
            self._others = self._others or _Index(self.samples, range(self.count, len(self.samples)))
            meant = self._others.meant(name)[:1]  # they are not scored, so any will do
        if len(meant) == 1:
            return meant[0]
        if meant:
            ids = ", ".join(repr(self.samples[place].id) for place in meant[:SHOWN])
            raise UsageError(f"{where}: {shown(name)} may be any of {len(meant)} samples: write one of the ids {ids}")
        raise UsageError(f"{where}: {self._unknown(name)}")

    def asked(self, number: int, where: str) -> int:
        """The question of the split that its release gives a number, see `Question.number`.

        Args:
            number: as given in the predictions, under `question_id`.
            where: the file, and the place in it, for the error.

        Raises:
            UsageError: there is none, or numbers are not unique in the split.
        """
        if not self._numbers:
            self._numbers = self._numbered(where)
        if number not in self._numbers:
            raise UsageError(f"{where}: no question of split {self.split} has question_id {number}")
        return self._numbers[number]

    def _numbered(self, where: str) -> dict[int, int]:
        """Places of the questions of the split by their numbers."""
        found: dict[int, int] = {}
        for place, sample in enumerate(self.samples[: self.count]):
            number = sample.question.number if sample.question is not None else None
            if number is not None and found.setdefault(number, place) == place:
                continue
            what = "not every question has one" if number is None else f"{number} is that of several questions"
            raise UsageError(
                f"{where}: question_id does not tell the questions of split {self.split} apart ({what}): give ids such "
                f"as {self.samples[0].id!r}, split and place in its file, or all answers in official order"
            )
        return found

    def _unknown(self, name: str) -> str:
        known = [spelling for sample in self.samples[: self.count] for spelling in spellings(sample)]
        near = difflib.get_close_matches(name, known[:20_000], n=1)
        example = f"did you mean {near[0]!r}?" if near else f"ids look like {self.samples[0].id!r}"
        if name.isdecimal() and self.samples[0].question is not None:
            example += "; numbers of questions belong in a column `question_id`"
        return f"{self.dataset.name} has no sample {shown(name)} in split {self.split}: {example}"


class _Index:
    """Samples at some places by name."""

    def __init__(self, samples: Sequence[Sample], places: range) -> None:
        self._exact = {samples[place].id: place for place in places}
        self._near: dict[str, list[int]] = defaultdict(list)
        for place in places:
            for name in spellings(samples[place]):
                self._near[name].append(place)

    def meant(self, name: str) -> list[int]:
        """Places of all samples that a name may mean."""
        return [self._exact[name]] if name in self._exact else self._near.get(name, [])


def spellings(sample: Sample) -> tuple[str, ...]:
    """Names under which a sample may be met, its id first."""
    found = [sample.id, sample.clip]
    if sample.subset:
        found += [name.removeprefix(f"{sample.subset}/") for name in found]
    return tuple(dict.fromkeys(found))


class Once:
    """Refuses a sample that is predicted twice."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._met: set[int] = set()

    def take(self, place: int, where: str) -> int:
        """The place again.

        Raises:
            UsageError: it was taken before.
        """
        if place in self._met:
            raise UsageError(f"{where}: sample {self._names.samples[place].id!r} is predicted twice: keep one of them")
        self._met.add(place)
        return place


def listed(ids: Iterable[str] | Sequence[str]) -> str:
    """The first few names, and how many there are where there are more."""
    every = list(ids)
    first = ", ".join(name if len(name) <= _LONG else f"{name[:_LONG]}..." for name in every[:SHOWN])
    return first + (f", ... ({len(every)} in all)" if len(every) > SHOWN else "")
