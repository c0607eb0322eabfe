"""The simplest answers that ignore their input, learned from the training labels: what any model has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.manifest import Sample
from avpipe.stages.metrics import avs
from avpipe.stages.tasks import SegmentationTask, nearest

LEVELS = np.linspace(0.0, 1.0, 21)[1:]
"""Shares of training masks in which a pixel must be on to be on in the constant mask."""


def majority_class(samples: Sequence[Sample], classes: int) -> int:
    """The class of most training segments; the lowest of equals."""
    labels = [event for sample in samples for event in sample.events or ()]
    return int(np.argmax(np.bincount(labels, minlength=classes)))


def best_constant_mask(task: SegmentationTask) -> npt.NDArray[np.bool_]:
    """The one mask with the highest mean IoU on the training frames, of those that cut their mean at a level.

    The empty mask and the full one are among the candidates.

    Args:
        task: rules for the training samples.

    Returns:
        bool `[H, W]` at the task's mask size.
    """
    share, frames = np.zeros(task.mask_size), 0
    for mask in _masks(task):
        share += mask
        frames += 1
    share /= max(frames, 1)
    cuts = [share >= level for level in LEVELS]
    candidates = np.stack([np.zeros(task.mask_size, dtype=bool), *cuts, np.ones(task.mask_size, dtype=bool)])
    chances = candidates.astype(np.float32)
    total = np.zeros(len(candidates))
    for mask in _masks(task):
        total += avs.frame_iou(chances, np.broadcast_to(mask, chances.shape))
    best: npt.NDArray[np.bool_] = candidates[int(np.argmax(total))]
    return best


def _masks(task: SegmentationTask) -> Iterable[npt.NDArray[np.bool_]]:
    for index in range(len(task.samples)):
        for mask in task.truth(index):
            if mask is not None:
                yield nearest(mask, task.mask_size)
