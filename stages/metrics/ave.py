"""AVE: accuracy over segments, as the official evaluator counts it.

Protocol `ave-segment-accuracy`: the class with the highest score wins each one-second segment, ties go to the lowest
class id, background counts like any class, and all segments of the split are pooled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PROTOCOL = "ave-segment-accuracy"


def decide(scores: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The class of every segment.

    Args:
        scores: any real numbers `[..., classes]`, higher is better.

    Returns:
        class ids `[...]`; ties go to the lowest id.
    """
    return np.asarray(np.argmax(np.asarray(scores), axis=-1), dtype=np.int64)


def segment_accuracy(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> dict[str, Any]:
    """Share of segments that got their class.

    Args:
        predicted: class ids, any shape, such as `[samples, T]`.
        truth: class ids of the same shape.

    Returns:
        `protocol`, `accuracy` (a fraction), `correct` and `segments` (counts).

    Raises:
        ValueError: the shapes differ, or there is nothing to score.
    """
    ours, official = np.asarray(predicted), np.asarray(truth)
    if ours.shape != official.shape:
        raise ValueError(f"predictions have shape {ours.shape}, labels {official.shape}: they must be equal")
    if official.size == 0:
        raise ValueError("there is no segment to score")
    correct = int(np.count_nonzero(ours == official))
    return {
        "protocol": PROTOCOL,
        "accuracy": correct / official.size,
        "correct": correct,
        "segments": int(official.size),
    }
