"""Counting segments and events of binary maps `[videos, classes, T]`, all videos and classes at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
"""TP, FP and FN of every class of every video, `[3, videos, classes]`."""


def segment_counts(predicted: Bools, truth: Bools) -> Counts:
    """TP, FP and FN over segments."""
    return np.stack([(predicted & truth).sum(-1), (predicted & ~truth).sum(-1), (~predicted & truth).sum(-1)])


def event_counts(predicted: Bools, truth: Bools, iou_threshold: float) -> Counts:
    """TP, FP and FN over events: maximal runs of ones.

    Every segment that is on in both maps says which predicted run meets which true one, so counting equal pairs gives
    the intersections of all pairs of runs that meet.
    """
    ours, theirs = _Runs(predicted), _Runs(truth)
    meeting = np.flatnonzero(ours.on & theirs.on)
    pairs = ours.number[meeting] * max(len(theirs.row), 1) + theirs.number[meeting]
    pairs, shared = np.unique(pairs, return_counts=True)
    mine, other = np.divmod(pairs, max(len(theirs.row), 1))
    matched = shared >= iou_threshold * (ours.length[mine] + theirs.length[other] - shared)
    found, met = np.zeros(len(ours.row), dtype=bool), np.zeros(len(theirs.row), dtype=bool)
    found[mine[matched]], met[other[matched]] = True, True
    rows = predicted.shape[0] * predicted.shape[1]
    counts = [np.bincount(row, minlength=rows) for row in (ours.row[found], ours.row[~found], theirs.row[~met])]
    return np.stack(counts).reshape(3, *predicted.shape[:2])


def fscore(counts: Counts) -> npt.NDArray[np.float64]:
    """Mean F of each video over its classes that have anything predicted or true; 1 where none has. `[videos]`."""
    hits, false_alarms, misses = counts
    below = 2 * hits + false_alarms + misses
    scores = np.divide(2 * hits, below, out=np.zeros(below.shape), where=below > 0)
    valid = (below > 0).sum(axis=-1)
    return np.where(valid > 0, scores.sum(axis=-1) / np.maximum(valid, 1), 1.0)


class _Runs:
    """The runs of ones of maps, numbered in reading order.

    Attributes:
        on: the maps, flat, with a zero at both ends of each row so that no run goes on in the next.
        number: of the run of each place in `on`; means nothing where it is off.
        row: which row (video and class) each run lies in.
        length: segments of each run.
    """

    def __init__(self, maps: Bools) -> None:
        padded = np.pad(maps.reshape(-1, maps.shape[-1]), ((0, 0), (1, 1)))
        self.on = padded.ravel()
        before = np.concatenate([[False], self.on[:-1]])
        starts, ends = self.on & ~before, ~self.on & before
        self.number = np.cumsum(starts) - 1
        first = np.flatnonzero(starts)
        self.row, self.length = first // padded.shape[1], np.flatnonzero(ends) - first
