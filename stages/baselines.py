"""How the simplest answers that ignore their input are learned from the training labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.manifest import Sample
from avpipe.stages.metrics import avs
from avpipe.stages.metrics.avss import AvssScorer

if TYPE_CHECKING:
    from avpipe.stages.tasks.segmentation import SegmentationTask
    from avpipe.stages.tasks.semantic import SemanticTask

LEVELS = np.linspace(0.0, 1.0, 21)[1:]
"""Shares of training masks in which a pixel must be on to be on in the constant mask."""
MOST_MAPS, MAP_STEP = 4096, 4
"""Class maps of which the constant one is made at most, and every how many pixels they are looked at."""


def majority_class(samples: Sequence[Sample], classes: int) -> int:
    """The class of most training segments; the lowest of equals."""
    labels = [event for sample in samples for event in sample.events or ()]
    return int(np.argmax(np.bincount(labels, minlength=classes)))


def frequent_classes(samples: Iterable[Sample], classes: int) -> tuple[int, ...]:
    """The constant set of classes that fits weak labels best.

    Of the most frequent class, the two most frequent and so on (of equals the lower ids come first), those with the
    highest mean F over the samples, as `metrics.llp` would give it to them were every label on in each segment of both
    modalities: of a sample, classes that are in both sets over those that are in either. The smallest set of equals.

    Args:
        samples: training samples; only `labels` are read.
        classes: number of classes.

    Returns:
        class ids in ascending order, one at least.
    """
    truth = np.array([np.isin(np.arange(classes), sample.labels or ()) for sample in samples]).reshape(-1, classes)
    order = np.argsort(-truth.sum(axis=0), kind="stable")
    hits = truth[:, order].cumsum(axis=1)  # [samples, sizes]
    either = np.arange(1, classes + 1) + truth.sum(axis=1)[:, None] - hits
    best = int(np.argmax((hits / either).sum(axis=0)))
    return tuple(sorted(order[: best + 1].tolist()))


def best_constant_mask(task: SegmentationTask) -> npt.NDArray[np.bool_]:
    """The one mask with the highest mean IoU on the training frames, of those that cut their mean at a level.

    The empty mask and the full one are among the candidates.

    Args:
        task: rules for the training samples.

    Returns:
        bool `[H, W]` at the task's mask size.
    """
    share, frames = np.zeros(task.mask_size), 0
    for mask in task.masks():
        share += mask
        frames += 1
    share /= max(frames, 1)
    cuts = [share >= level for level in LEVELS]
    candidates = np.stack([np.zeros(task.mask_size, dtype=bool), *cuts, np.ones(task.mask_size, dtype=bool)])
    chances = candidates.astype(np.float32)
    total = np.zeros(len(candidates))
    for mask in task.masks():
        total += avs.frame_iou(chances, np.broadcast_to(mask, chances.shape))
    best: npt.NDArray[np.bool_] = candidates[int(np.argmax(total))]
    return best


def best_constant_map(task: SemanticTask) -> npt.NDArray[np.uint8]:
    """The one class map with the highest official mIoU on training frames, of those that cut a mean map at a level.

    Each pixel has its most frequent class but background, where the share of frames with any of them reaches the level,
    else background. Background everywhere is among the candidates, and so is the most frequent class of each pixel.

    Args:
        task: rules for the training samples; of their frames at most `MOST_MAPS`, spread evenly, are read.

    Returns:
        class ids uint8 `[H / 4, W / 4]` (rounded up), to be brought to the task's mask size.
    """
    frames = np.stack([ids[::MAP_STEP, ::MAP_STEP] for ids in task.masks(MOST_MAPS)])
    counts = np.stack([(frames == number).sum(axis=0) for number in range(task.classes)])
    usual, share = 1 + counts[1:].argmax(axis=0), counts[1:].sum(axis=0) / len(frames)
    cuts = [np.where(share >= level, usual, 0) for level in LEVELS]
    candidates = [np.zeros_like(usual), counts.argmax(axis=0), *cuts]

    def miou(ids: npt.NDArray[np.integer]) -> float:
        scorer = AvssScorer(1, classes=task.classes, frames=None)
        scorer.add(0, np.broadcast_to(ids, frames.shape), frames)
        return float(scorer.class_sums()["class_iou"].mean())

    best: npt.NDArray[np.uint8] = max(candidates, key=miou).astype(np.uint8)
    return best
