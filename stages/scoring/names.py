"""Which sample an id in somebody's predictions means."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Sample

SHOWN = 3
"""Samples that a message names at most."""


class Names:
    """The samples of a split by name.

    A sample is named by its id, or by its clip's id, with or without the subset in front, where only one sample has it.

    Args:
        dataset: the dataset.
        split: `test`, `val` or `train`.

    Attributes:
        samples: those of the split, in official order. Places in it are what the methods return.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self.dataset, self.split = dataset, split
        self.samples = dataset.split(split)
        self._exact = {sample.id: place for place, sample in enumerate(self.samples)}
        self._near: dict[str, list[int]] = defaultdict(list)
        for place, sample in enumerate(self.samples):
            for name in spellings(sample):
                self._near[name].append(place)

    def place(self, name: str, where: str) -> int:
        """The sample that is meant.

        Args:
            name: as written in the predictions.
            where: the file, and the place in it, for the error.

        Raises:
            UsageError: none is meant, or one of several might be.
        """
        if name in self._exact:
            return self._exact[name]
        meant = self._near.get(name, [])
        if len(meant) == 1:
            return meant[0]
        if meant:
            ids = ", ".join(repr(self.samples[place].id) for place in meant[:SHOWN])
            raise UsageError(f"{where}: {name!r} may be any of {len(meant)} samples: write one of the ids {ids}")
        raise UsageError(f"{where}: {self._unknown(name)}")

    def _unknown(self, name: str) -> str:
        for sample in self.dataset.samples:
            if name in spellings(sample):
                return f"sample {name!r} is in split {sample.split}, not in {self.split}: choose it with --split"
        known = [spelling for sample in self.samples for spelling in spellings(sample)]
        near = difflib.get_close_matches(name, known[:20_000], n=1)
        example = f"did you mean {near[0]!r}?" if near else f"ids look like {self.samples[0].id!r}"
        return f"{self.dataset.name} has no sample {name!r} in split {self.split}: {example}"


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
    return ", ".join(every[:SHOWN]) + (f", ... ({len(every)} in all)" if len(every) > SHOWN else "")
