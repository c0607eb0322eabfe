"""AVSBench S4 and MS3: mean IoU and maximal F of binary masks, as the official evaluator computes them.

IoU: a pixel is on where its probability is strictly above one half; a frame whose true mask is empty scores the share
of pixels that are rightly off. F: beta squared 0.3, 255 thresholds, a pixel is on where its probability is at least
the threshold; frames with an empty mask are left out. The curve of F over thresholds is averaged over the frames of a
batch and its maximum is the batch's score, so the result depends on how many videos make a batch:

- `avsbench-batch4`: four videos a batch, plain mean over batches (the authors' scripts; the default here);
- `avsbench-batch1`: one video a batch (the authors' program without options);
- `avsbench-batch<N>`: N videos a batch, as other repositories have it (2 and 8 are in use);
- `avsbench-set`: one curve over all frames of the set.

Scores are collected per video by `frame_scores`, so the pixels of a set never lie in memory together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import unknown_name

PROTOCOLS = ("avsbench-batch4", "avsbench-batch1", "avsbench-set")
"""The protocols that are reported; `score` takes other batch sizes as well."""
DEFAULT_PROTOCOL = "avsbench-batch4"
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


def probabilities(logits: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The sigmoid in float32, without overflow warnings for large negative logits."""
    values = np.asarray(logits, dtype=np.float32)
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float32)


def frame_scores(probability: npt.ArrayLike, mask: npt.ArrayLike) -> FrameScores:
    """IoU and F curve of every frame, without a loop over pixels or thresholds.

    Args:
        probability: float32 `[F, H, W]`, after the sigmoid.
        mask: the truth, bool or 0/1, same shape.

    Raises:
        ValueError: the shapes differ, or probabilities lie outside 0 to 1.
    """
    chance, truth, empty = _rows(probability, mask)
    return FrameScores(_iou(chance > 0.5, truth, empty), _curves(chance, truth, empty), empty)


def frame_iou(probability: npt.ArrayLike, mask: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU of every frame alone; much cheaper than `frame_scores`, whose arguments and errors it has."""
    chance, truth, empty = _rows(probability, mask)
    return _iou(chance > 0.5, truth, empty)


def _rows(
    probability: npt.ArrayLike, mask: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Probabilities and truth as one row of pixels a frame, checked, and which rows of the truth are empty."""
    chance, truth = np.asarray(probability, dtype=np.float32), np.asarray(mask) != 0
    if chance.shape != truth.shape or chance.ndim != 3:
        raise ValueError(f"probabilities have shape {chance.shape}, masks {truth.shape}: both must be [frames, H, W]")
    if chance.size and not (chance.min() >= 0 and chance.max() <= 1):
        raise ValueError("probabilities must lie in 0 to 1: pass them after the sigmoid")
    frames = len(chance)
    chance, truth = chance.reshape(frames, -1), truth.reshape(frames, -1)
    return chance, truth, ~truth.any(axis=1)


def join(parts: Sequence[FrameScores]) -> FrameScores:
    """Scores of several groups of frames as one."""
    if not parts:
        return FrameScores(np.empty(0), np.empty((0, THRESHOLDS)), np.empty(0, dtype=bool))
    return FrameScores(
        np.concatenate([part.iou for part in parts]),
        np.concatenate([part.curve for part in parts]),
        np.concatenate([part.empty for part in parts]),
    )


def score(videos: Sequence[FrameScores], protocol: str = DEFAULT_PROTOCOL) -> dict[str, Any]:
    """Scores of a set of videos.

    Args:
        videos: one entry a video, in official order.
        protocol: `avsbench-batch<N>` or `avsbench-set`.

    Returns:
        `protocol`, `miou` and `fscore` (fractions), `frames` and `videos` (counts).

    Raises:
        ValueError: there is no frame.
        UsageError: the protocol is not known.
    """
    named = re.fullmatch(r"avsbench-batch([1-9]\d*)", protocol)
    if protocol != "avsbench-set" and named is None:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    scored = [video for video in videos if len(video.iou)]
    if not scored:
        raise ValueError("there is no frame to score")
    size = int(named[1]) if named else len(scored)
    batches = [join(scored[start : start + size]) for start in range(0, len(scored), size)]
    return {
        "protocol": protocol,
        "miou": float(np.mean([batch.iou.mean() for batch in batches])),
        "fscore": float(np.mean([_fscore(batch) for batch in batches])),
        "frames": sum(len(video.iou) for video in scored),
        "videos": len(scored),
    }


def _fscore(batch: FrameScores) -> float:
    """Maximum of the mean curve; 0 where every mask of the batch is empty, which still counts."""
    curves = batch.curve[~batch.empty]
    return float(curves.mean(axis=0).max()) if len(curves) else 0.0


def _iou(
    on: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """IoU of each row; the share of pixels rightly off where the truth is empty."""
    shared = np.where(empty, (~on).sum(axis=1), (on & truth).sum(axis=1))
    union = np.where(empty, on.shape[1], (on | truth).sum(axis=1))
    return np.asarray(shared / (union + 1e-7), dtype=np.float64)


def _curves(
    chance: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """F at every threshold for each row, from one histogram of "how many thresholds does this pixel reach"."""
    frames, bins = len(chance), THRESHOLDS + 1
    reached = _thresholds_reached(chance)
    reached += bins * np.arange(frames)[:, None]
    every = _at_least(np.bincount(reached.ravel(), minlength=frames * bins), frames)
    hits = _at_least(np.bincount(reached[truth], minlength=frames * bins), frames)
    precision, recall = hits / (every + 1e-20), hits / (truth.sum(axis=1)[:, None] + 1e-20)
    below = BETA_SQUARED * precision + recall
    curve = np.divide((1 + BETA_SQUARED) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return np.where(empty[:, None], 0.0, curve)


def _thresholds_reached(chance: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """How many thresholds are at most the probability: a guess that is short by two at most, then exact comparisons.

    The same as a binary search in `thresholds()`, several times faster.
    """
    limits = np.append(thresholds(), np.float32(np.inf))
    guess = (chance * (THRESHOLDS - 1)).astype(np.intp)
    return guess + (limits[guess] <= chance) + (limits[guess + 1] <= chance)


def _at_least(histogram: npt.NDArray[np.int64], frames: int) -> npt.NDArray[np.float64]:
    """Pixels at or above each threshold, from the histogram of thresholds reached."""
    counts = histogram.reshape(frames, THRESHOLDS + 1)
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1][:, 1:].astype(np.float64)
