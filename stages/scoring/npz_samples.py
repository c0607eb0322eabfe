"""An npz file of predictions, sample by sample.

Arrays run over segments: all segments of all samples one after the other, `[S, ...]`, or one row a sample, padded to
the same number of segments, `[N, T, ...]`. Optional arrays say what lies where: `ids` `[N]` names the samples, or
`question_id` `[N]` names questions, without them they come in official order; `segments` `[N]` says how many segments
each has, without it as many as it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import UsageError
from avpipe.stages.scoring.names import Names, Once
from avpipe.stages.scoring.npz import Archive, Stored, Values, reading

QUESTION_ID = "question_id"
"""Array or column with the numbers that a release gives its questions."""


@dataclass(frozen=True)
class Wanted:
    """What is to be predicted.

    Attributes:
        names: the samples of the split.
        scored: places of those that have an annotation, in official order.
        lengths: numbers of segments that the prediction of the sample at a place may have, its own number first.
    """

    names: Names
    scored: tuple[int, ...]
    lengths: Callable[[int], tuple[int, ...]]


def read_npz(
    path: Path,
    wanted: Wanted,
    of_segments: Mapping[str, int],
    of_samples: Mapping[str, int] | None = None,
    fits: Callable[[int, tuple[int, ...]], None] | None = None,
) -> Iterator[tuple[int, dict[str, Values]]]:
    """The arrays of one sample after the other.

    Args:
        path: the file.
        wanted: what is to be predicted.
        of_segments: arrays with a value for each segment, with the number of axes of that value; all are there.
        of_samples: the same for arrays with a value for each sample.
        fits: called with the place of the first sample that is scored, and the shape of a value of each array over
            segments, before any value is read; raises where that is not the shape that it should have.

    Yields:
        place of a sample among `wanted.names.samples`, and its values: `[segments, ...]` for arrays of segments.

    Raises:
        UsageError: arrays do not fit each other or the annotations, a sample is unknown or there twice, or a value is
            no number.
    """
    with Archive(path) as archive:
        segments = {name: _Plan(archive.open(name), axes) for name, axes in of_segments.items()}
        samples = {name: archive.open(name) for name in of_samples or {}}
        for name, axes in (of_samples or {}).items():
            if len(samples[name].shape) != axes + 1:
                raise UsageError(f"{path}: array {name!r} has shape {samples[name].shape}: one row a sample is needed")
        places, counts = _order(archive, wanted, segments, samples)
        scored = set(wanted.scored)
        first = next((place for place in places if place in scored), None)
        if fits is not None and first is not None:
            for plan in segments.values():
                fits(first, plan.row)
        for number, (place, count) in enumerate(zip(places, counts, strict=True)):
            sample = wanted.names.samples[place].id
            with reading(path):
                one = {name: plan.take(count) for name, plan in segments.items()}
                one |= {name: stored.take(1, stored.shape[1:])[0] for name, stored in samples.items()}
            for name, values in one.items():
                if values.dtype.kind == "f" and np.isnan(values).any():
                    raise UsageError(f"{path}: {name} of sample {sample!r} (row {number}) holds NaN")
            yield place, one


class _Plan:
    """How an array over segments is cut into samples."""

    def __init__(self, stored: Stored, axes: int) -> None:
        self.stored, self.leading = stored, len(stored.shape) - axes
        if self.leading not in (1, 2):
            raise UsageError(
                f"{stored.archive.path}: array {stored.name!r} has shape {stored.shape}: it must have "
                f"{_axes(axes + 1)} (all segments in a row) or {_axes(axes + 2)} (samples, segments)"
            )
        self.row = stored.shape[self.leading :]

    @property
    def padded(self) -> int | None:
        """Segments that every sample has room for; None where they follow each other without gaps."""
        return int(self.stored.shape[1]) if self.leading == 2 else None

    def take(self, count: int) -> Values:
        """The segments of the next sample."""
        return self.stored.take(count, self.row, skip=0 if self.padded is None else self.padded - count)


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"


def _order(
    archive: Archive, wanted: Wanted, segments: Mapping[str, _Plan], samples: Mapping[str, Stored]
) -> tuple[list[int], list[int]]:
    """Which samples the file holds, one after the other, and how many segments of each."""
    path = archive.path
    given = _counts(archive) if "segments" in archive.names else None
    rows = {name: plan.stored.shape[0] for name, plan in segments.items() if plan.padded is not None}
    rows |= {name: stored.shape[0] for name, stored in samples.items()}
    if given is not None:
        rows["segments"] = len(given)
    if "ids" in archive.names:
        ids = texts(archive.whole("ids"), f"{path}: array 'ids'")
        once = Once(wanted.names)
        where = f"{path}: array 'ids'"
        places = [once.take(wanted.names.place(name, where), where) for name in ids]
    elif QUESTION_ID in archive.names:
        places = _asked(archive, wanted)
    elif rows:
        name, number = next(iter(rows.items()))
        places = by_position(wanted, number, f"{path}: array {name!r}")
    else:
        places = _by_length(path, wanted, segments)
    for name, number in rows.items():
        if number != len(places):
            raise UsageError(f"{path}: array {name!r} has {number} rows for {len(places)} samples")
    return places, _lengths(path, wanted, places, given, segments)


def _asked(archive: Archive, wanted: Wanted) -> list[int]:
    """Places of questions by the numbers of their release."""
    values, where = archive.whole(QUESTION_ID), f"{archive.path}: array {QUESTION_ID!r}"
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UsageError(f"{where} must hold one whole number a question, not {values.dtype} {values.shape}")
    once = Once(wanted.names)
    return [once.take(wanted.names.asked(number, where), where) for number in values.tolist()]


def by_position(wanted: Wanted, number: int, where: str) -> list[int]:
    """Places of predictions that come without names, in official order.

    Raises:
        UsageError: there are not as many as the split has samples, or samples with an annotation.
    """
    total = wanted.names.count
    if number == total:
        return list(range(total))
    if number == len(wanted.scored):
        return list(wanted.scored)
    raise UsageError(
        f"{where} holds {number} samples without names, split {wanted.names.split} has {total}: give their ids, or all "
        "of them in official order"
    )


def _by_length(path: Path, wanted: Wanted, segments: Mapping[str, _Plan]) -> list[int]:
    """Samples of arrays that say nothing but how many segments there are in all."""
    name, plan = next(iter(segments.items()))
    total = plan.stored.shape[0]
    every = tuple(range(wanted.names.count))
    for places in (every, wanted.scored):
        if total in (sum(wanted.lengths(p)[0] for p in places), sum(max(wanted.lengths(p)) for p in places)):
            return list(places)
    own = sum(wanted.lengths(place)[0] for place in every)
    raise UsageError(
        f"{path}: array {name!r} has {total} segments without names, split {wanted.names.split} has {own}: give 'ids' "
        "and 'segments'"
    )


def _lengths(
    path: Path, wanted: Wanted, places: Sequence[int], given: list[int] | None, segments: Mapping[str, _Plan]
) -> list[int]:
    """How many segments each sample has in the file; checked against what it may have, and against the arrays."""
    room = min((plan.padded for plan in segments.values() if plan.padded is not None), default=None)
    flat = {name: plan.stored.shape[0] for name, plan in segments.items() if plan.padded is None}
    if given is not None:
        counts = given
    elif room is not None:
        counts = [max((n for n in wanted.lengths(place) if n <= room), default=room) for place in places]
    else:
        counts = [wanted.lengths(place)[0] for place in places]
        if sum(counts) not in flat.values():
            counts = [max(wanted.lengths(place)) for place in places]
    for place, count in zip(places, counts, strict=True):
        if count not in wanted.lengths(place) or (room is not None and count > room):
            needed = " or ".join(map(str, wanted.lengths(place)))
            found = count if room is None else min(count, room)
            sample = wanted.names.samples[place].id
            raise UsageError(f"{path}: sample {sample!r} has {found} predicted segments, {needed} are needed")
    for name, total in flat.items():
        if total != sum(counts):
            raise UsageError(
                f"{path}: array {name!r} has {total} segments, but its {len(places)} samples have {sum(counts)}: "
                "'segments' says how many each has"
            )
    return counts


def _counts(archive: Archive) -> list[int]:
    values = archive.whole("segments")
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UsageError(f"{archive.path}: array 'segments' must hold one whole number a sample")
    return [int(value) for value in values]


def texts(values: Values, where: str) -> list[str]:
    """Names as text.

    Raises:
        UsageError: they are no list of texts.
    """
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise UsageError(f"{where} must be a list of texts, not {values.dtype} {values.shape}")
    if values.dtype.kind == "S":
        try:
            return [value.decode() for value in values.tolist()]
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} must be text in UTF-8: {error}") from error
    return [str(value) for value in values.tolist()]
