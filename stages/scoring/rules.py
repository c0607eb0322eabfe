"""What the tasks have in common when somebody's predictions are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import Dataset, Sample
from avpipe.stages.scoring.names import Names
from avpipe.stages.scoring.npz import Archive, Values
from avpipe.stages.scoring.npz_samples import Wanted
from avpipe.stages.scoring.tables import SUFFIXES as TABLES

Load = Callable[[], Any]
"""Gives the prediction of a sample; what costs time is done in here, by one of several threads."""


class Rules(ABC):
    """How predictions of one task are read and scored.

    Args:
        dataset: with annotations.
        split: `test`, `val` or `train`.
        source: the predictions.
        blank_missing: what lacks a prediction is scored as nothing found; else it is an error.

    Attributes:
        wanted: what is to be predicted.
        lacking_segments: how many segments of each sample have no prediction, where others of it have one; int64,
            by place.
        elsewhere: places of samples of other splits that were met.
    """

    forms: tuple[str, ...]
    """The arrays that an npz file may hold, in words."""
    heavy = False
    """A sample is worth a thread of its own."""
    lacking = "none has an annotation"
    """What a split without anything to score lacks."""

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        self.dataset, self.source, self.blank_missing = dataset, source, blank_missing
        names = Names(dataset, split)
        self.segments = {clip.id: clip.segments for clip in dataset.clips}
        scored = tuple(place for place, sample in enumerate(names.samples[: names.count]) if self.annotated(sample))
        self.wanted = Wanted(names, scored, self.lengths)
        self.index = {place: index for index, place in enumerate(scored)}
        self.elsewhere: list[int] = []
        self.lacking_segments = np.zeros(len(names.samples), dtype=np.int64)
        if not scored:
            raise UsageError(
                f"{dataset.name} at {dataset.root} has no sample to score in split {split}: {self.lacking}"
            )

    @property
    def samples(self) -> Sequence[Sample]:
        """Samples of the split, then those of other splits, see `Names`."""
        return self.wanted.names.samples

    def wants(self, place: int) -> bool:
        """Whether the prediction at a place is to be scored; those of other splits are noted."""
        if place >= self.wanted.names.count:
            self.elsewhere.append(place)
        return place in self.index

    @abstractmethod
    def annotated(self, sample: Sample) -> bool:
        """Whether there is something to score a sample against."""

    def lengths(self, place: int) -> tuple[int, ...]:
        """Numbers of segments that the prediction of a sample may have, its own first."""
        return (self.segments[self.samples[place].clip],)

    @abstractmethod
    def read(self) -> Iterator[tuple[int, Load]]:
        """Places of samples, each once and in any order, and what gives their predictions."""

    @abstractmethod
    def add(self, place: int, prediction: Any) -> None:
        """Scores the prediction of an annotated sample."""

    @abstractmethod
    def blank(self, place: int) -> Any:
        """The prediction of a sample that has none: nothing found."""

    @abstractmethod
    def result(self, protocol: str | None) -> dict[str, Any]:
        """Scores of the metric's module; its main protocol is the one that is asked for."""

    def facts(self) -> dict[str, Any]:
        """What else a reader of the scores should know."""
        return {}

    def printed(self, scores: dict[str, Any]) -> list[str] | None:
        """The lines that the official program prints, where it prints other than plain numbers."""
        return None

    def choose_form(self, forms: Sequence[Sequence[str]]) -> Sequence[str]:
        """The form of which the npz file has all arrays, the largest where it is a part of another.

        Raises:
            UsageError: there is none, or several that say the same thing in two ways.
        """
        with Archive(self.source) as archive:
            held = archive.names
        met = sorted((form for form in forms if held.issuperset(form)), key=len, reverse=True)
        for form in met:
            if other := [name for name in form if name not in met[0]]:
                raise UsageError(f"{self.source} holds {met[0][0]!r} and {other[0]!r}, predictions twice: keep one")
        if met:
            return met[0]
        found = ", ".join(sorted(held)) or "no array"
        raise UsageError(f"{self.source} holds {found}; for {self.dataset.task} it needs {'; or '.join(self.forms)}")

    @property
    def kind(self) -> str:
        """`npz`, `table` or `folder`.

        Raises:
            UsageError: neither.
        """
        if self.source.is_dir():
            return "folder"
        suffix = self.source.suffix.lower()
        if not self.source.is_file():
            raise UsageError(f"there are no predictions {self.source}")
        if suffix == ".npz":
            return "npz"
        if suffix in TABLES:
            return "table"
        raise UsageError(
            f"{self.source}: predictions are an .npz file, a table ({', '.join(TABLES)}) or a folder of PNGs"
        )

    def refuse_kind(self) -> UsageError:
        """For files of a kind that the task has no format for."""
        return UsageError(f"{self.source}: predictions for {self.dataset.task} cannot be read from a {self.kind}")


def class_places(classes: Sequence[str]) -> dict[str, int]:
    """Ids by class name."""
    return {name: number for number, name in enumerate(classes)}


def class_id(text: str, places: dict[str, int], where: str) -> int:
    """A class given by name or id; spreadsheets may have made `5.0` of an id.

    Raises:
        UsageError: there is no such class.
    """
    if text in places:
        return places[text]
    try:
        number = int(text.removesuffix(".0"))
    except ValueError:
        raise UsageError(f"{where}: {unknown_name('class', text, places)}") from None
    if not 0 <= number < len(places):
        raise UsageError(f"{where}: class {number} does not exist, ids go from 0 to {len(places) - 1}")
    return number


def require_numbers(values: Values, name: str) -> None:
    """Refuses arrays of text and the like.

    Raises:
        UsageError: it does not hold real numbers.
    """
    if values.dtype.kind not in "biuf":
        raise UsageError(f"array {name!r} holds {values.dtype}, not numbers")


def require_ids(values: Values, count: int, name: str) -> Values:
    """Class ids as int64.

    Raises:
        UsageError: it holds other than whole numbers from 0 to `count` - 1.
    """
    require_numbers(values, name)
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        raise UsageError(f"array {name!r} must hold class ids, whole numbers")
    if values.size and not (values.min() >= 0 and values.max() < count):
        wrong = values.min() if values.min() < 0 else values.max()
        raise UsageError(f"array {name!r} holds class {wrong:g}, ids go from 0 to {count - 1}")
    return values.astype(np.int64)


def choose_protocol(scores: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    """The scores with protocol `wanted` in front, the others in `other_protocols`.

    Raises:
        UsageError: there are no scores of that name.
    """
    others = dict(scores.get("other_protocols", {}))
    if wanted is None or wanted == scores["protocol"]:
        return scores
    if wanted not in others:
        raise unknown_name("protocol", wanted, [scores["protocol"], *others])
    first = {key: value for key, value in scores.items() if key != "other_protocols"}
    chosen = others.pop(wanted)
    return {**chosen, "other_protocols": {first["protocol"]: first, **others}}
