"""Binary masks, frame by frame: IoU and the curve of F over thresholds; `metrics.avs` says what is made of them.

Frames are taken one at a time, since the pixels of one fit in a processor's cache; within a frame nothing loops over
pixels or thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError

THRESHOLDS = 255
BETA_SQUARED = 0.3


@dataclass(frozen=True, slots=True)
class FrameScores:
    """What the scores need to know of F frames.

    Attributes:
        iou: `[F]` float64.
        curve: F over thresholds, `[F, 255]` float64; zeros where the true mask is empty.
        empty: `[F]` bool, the true mask is empty.
    """

    iou: npt.NDArray[np.float64]
    curve: npt.NDArray[np.float64]
    empty: npt.NDArray[np.bool_]


def thresholds() -> npt.NDArray[np.float32]:
    """255 values from 0 to 1 in float32, built from both ends with one rounding each, as torch builds its linspace.

    Other ways of rounding move some of them by one bit, which moves pixels that lie exactly on them.
    """
    last = THRESHOLDS - 1
    step = np.float64(np.float32(1 / last))
    index = np.arange(THRESHOLDS)
    return np.where(index < THRESHOLDS // 2, step * index, 1 - step * (last - index)).astype(np.float32)


_LIMITS = thresholds()


def frame_scores(probability: npt.ArrayLike, mask: npt.ArrayLike) -> FrameScores:
    """IoU and F curve of every frame.

    Args:
        probability: float32 `[F, H, W]`, after the sigmoid.
        mask: the truth, bool or 0/1, same shape.

    Raises:
        UsageError: the shapes differ, or probabilities lie outside 0 to 1.
    """
    chance, truth, empty = _rows(probability, mask)
    precision, recall = _precision_recall(chance, truth)
    below = BETA_SQUARED * precision + recall
    curve = np.divide((1 + BETA_SQUARED) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return FrameScores(_iou(chance, truth, empty), np.where(empty[:, None], 0.0, curve), empty)


def precision_recall(
    probability: npt.ArrayLike, mask: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision and recall `[F, 255]` at the thresholds, NaN where the mask is empty; arguments of `frame_scores`."""
    chance, truth, empty = _rows(probability, mask)
    precision, recall = _precision_recall(chance, truth)
    precision[empty] = recall[empty] = np.nan
    return precision, recall


def frame_iou(probability: npt.ArrayLike, mask: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU of every frame alone; much cheaper than `frame_scores`, whose arguments and errors it has."""
    return _iou(*_rows(probability, mask))


def join(parts: Sequence[FrameScores]) -> FrameScores:
    """Scores of several groups of frames as one."""
    if not parts:
        return FrameScores(np.empty(0), np.empty((0, THRESHOLDS)), np.empty(0, dtype=bool))
    return FrameScores(
        np.concatenate([part.iou for part in parts]),
        np.concatenate([part.curve for part in parts]),
        np.concatenate([part.empty for part in parts]),
    )


def _rows(
    probability: npt.ArrayLike, mask: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Probabilities and truth as one row of pixels a frame, checked, and which rows of the truth are empty."""
    chance, truth = np.asarray(probability, dtype=np.float32), np.asarray(mask) != 0
    if chance.shape != truth.shape or chance.ndim != 3:
        raise UsageError(f"probabilities have shape {chance.shape}, masks {truth.shape}: both must be [frames, H, W]")
    if chance.size and not (chance.min() >= 0 and chance.max() <= 1):
        raise UsageError("probabilities must lie in 0 to 1: pass them after the sigmoid")
    pixels = chance.shape[1] * chance.shape[2]
    chance, truth = chance.reshape(-1, pixels), truth.reshape(-1, pixels)
    return chance, truth, ~truth.any(axis=1)


def _iou(
    chance: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """IoU of each row; the share of pixels rightly off where the truth is empty."""
    on = chance > 0.5
    counts = [np.count_nonzero(part, axis=1) for part in (on, truth, on & truth)]
    predicted, true, both = counts
    shared = np.where(empty, on.shape[1] - predicted, both)
    union = np.where(empty, on.shape[1], predicted + true - both)
    return np.asarray(shared / (union + 1e-7), dtype=np.float64)


def _precision_recall(
    chance: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision and recall of each row at every threshold."""
    bins = THRESHOLDS + 1
    counts = np.empty((len(chance), 2, bins), dtype=np.int64)  # pixels by truth and by thresholds reached
    for row, (values, mask) in enumerate(zip(chance, truth, strict=True)):
        reached = _thresholds_reached(values)
        reached += bins * mask
        counts[row] = np.bincount(reached, minlength=2 * bins).reshape(2, bins)
    at_least = np.cumsum(counts[:, :, ::-1], axis=2)[:, :, ::-1][:, :, 1:].astype(np.float64)
    hits = at_least[:, 1]
    return hits / (at_least.sum(axis=1) + 1e-20), hits / (truth.sum(axis=1)[:, None] + 1e-20)


def _thresholds_reached(chance: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """How many thresholds are at most the probability: those below the nearest one, and that one by exact comparison.

    The same as a binary search in `thresholds()`, several times faster.
    """
    nearest = (chance * np.float32(THRESHOLDS - 1) + np.float32(0.5)).astype(np.intp)
    return nearest + (_LIMITS.take(nearest, mode="clip") <= chance)
