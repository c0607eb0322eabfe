"""AVE: accuracy over segments, as the official evaluator counts it.

Protocol `ave-segment-accuracy`: the class with the highest score wins each one-second segment, ties go to the lowest
class id, background counts like any class, and all segments of the split are pooled.

Models with two heads (an event score for each segment, class scores for the video) are decided by `decide_two_head`
and scored under names of their own, since their numbers are reported in two ways:

- `ave-two-head`: all segments pooled;
- `ave-two-head-batch<N>`: the plain mean of the accuracies of batches of N videos in official order, as DG-SCT prints
  it. A short last batch weighs as much as a full one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics.common import Received, probabilities

PROTOCOL = "ave-segment-accuracy"
TWO_HEAD_PROTOCOL = "ave-two-head"
TWO_HEAD_BATCH = 16
"""Videos of a batch in the other protocol that is reported for two heads."""


def decide(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The class of every segment.

    Args:
        scores: any real numbers `[..., classes]`, higher is better.

    Returns:
        class ids `[...]`; ties go to the lowest id.
    """
    return np.asarray(np.argmax(np.asarray(scores), axis=-1), dtype=np.int64)


def decide_two_head(
    event_logit: npt.ArrayLike, class_logit: npt.ArrayLike, background: int = 28
) -> npt.NDArray[np.int64]:
    """The class of every segment from an event head and a class head.

    Args:
        event_logit: `[N, T]`; the segment is an event where the sigmoid in float32 is strictly above one half.
        class_logit: `[N, classes]`, one row a video, background not among the classes; ties go to the lowest id.
        background: class id of every other segment.

    Returns:
        class ids `[N, T]`.

    Raises:
        UsageError: the shapes do not belong together.
    """
    events, classes = probabilities(event_logit) > 0.5, decide(class_logit)
    if events.ndim != 2 or classes.shape != events.shape[:1]:
        shapes = f"{events.shape} and {np.shape(class_logit)}"
        raise UsageError(f"event and class scores have shapes {shapes}: they must be [videos, T] and [videos, classes]")
    return np.where(events, classes[:, None], background)


def segment_accuracy(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> dict[str, Any]:
    """Share of segments that got their class.

    Args:
        predicted: class ids, any shape, such as `[samples, T]`.
        truth: class ids of the same shape.

    Returns:
        `protocol`, `accuracy` (a fraction), `correct` and `segments` (counts).

    Raises:
        UsageError: the shapes differ, or there is nothing to score.
    """
    right = _right(predicted, truth)
    return _pooled(PROTOCOL, int(np.count_nonzero(right)), right.size)


class AveScorer:
    """Accuracy of samples that come one by one, in any order; they may differ in length.

    Args:
        samples: how many the split has.
        two_head: the classes come from `decide_two_head`.

    Raises:
        UsageError: there is no sample.
    """

    def __init__(self, samples: int, *, two_head: bool = False) -> None:
        self.two_head = two_head
        self._received = Received(samples, "sample")
        self._correct, self._segments = np.zeros(samples, dtype=np.int64), np.zeros(samples, dtype=np.int64)

    def add(self, index: int, predicted: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Counts one sample.

        Args:
            index: its place in official order.
            predicted: class ids `[T]`, see `decide` and `decide_two_head`.
            truth: class ids `[T]`.

        Raises:
            UsageError: the shapes differ, or the place is wrong or taken.
        """
        right = _right(predicted, truth)
        self._received.take(index)
        self._correct[index], self._segments[index] = np.count_nonzero(right), right.size

    def result(self) -> dict[str, Any]:
        """`protocol`, `accuracy`, `correct`, `segments` and, for two heads, `other_protocols` with batches of 16.

        Raises:
            UsageError: a sample was never added, or there is no segment.
        """
        self._received.require_all()
        correct, segments = int(self._correct.sum()), int(self._segments.sum())
        if not self.two_head:
            return _pooled(PROTOCOL, correct, segments)
        batches = self.batch_result(TWO_HEAD_BATCH)
        return {**_pooled(TWO_HEAD_PROTOCOL, correct, segments), "other_protocols": {batches["protocol"]: batches}}

    def batch_result(self, size: int) -> dict[str, Any]:
        """`protocol` (`ave-two-head-batch<N>`), `accuracy` and `batches`, the accuracy of each batch of `size` videos.

        Raises:
            UsageError: a sample was never added, or there is no segment.
        """
        self._received.require_all()
        kept = np.flatnonzero(self._segments)
        if not len(kept):
            raise UsageError("there is no segment to score")
        starts = np.arange(0, len(kept), size)
        correct, segments = (np.add.reduceat(counts[kept], starts) for counts in (self._correct, self._segments))
        batches = correct / segments
        protocol = f"{TWO_HEAD_PROTOCOL}-batch{size}"
        return {"protocol": protocol, "accuracy": float(batches.mean()), "batches": batches.tolist()}


def _right(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where the classes agree."""
    ours, official = np.asarray(predicted), np.asarray(truth)
    if ours.shape != official.shape:
        raise UsageError(f"predictions have shape {ours.shape}, labels {official.shape}: they must be equal")
    return np.asarray(ours == official)


def _pooled(protocol: str, correct: int, segments: int) -> dict[str, Any]:
    """The scores of pooled segments."""
    if segments == 0:
        raise UsageError("there is no segment to score")
    return {"protocol": protocol, "accuracy": correct / segments, "correct": correct, "segments": segments}
