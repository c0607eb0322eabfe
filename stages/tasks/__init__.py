"""What differs between tasks in training and scoring: targets, loss, predictions, official scores. One file a task."""

from __future__ import annotations

from collections.abc import Sequence

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.config import TrainConfig
from avpipe.stages.tasks.contract import Prediction, Task
from avpipe.stages.tasks.events import EventsTask
from avpipe.stages.tasks.segmentation import OFF_LOGIT, SegmentationTask, nearest

__all__ = ["OFF_LOGIT", "EventsTask", "Prediction", "SegmentationTask", "Task", "build_task", "nearest"]


def build_task(
    name: str, samples: Sequence[Sample], *, classes: int, mask_size: tuple[int, int], config: TrainConfig
) -> EventsTask | SegmentationTask:
    """The rules of task `name` (`events` or `segmentation`) for these samples.

    Raises:
        UsageError: a sample has no labels of that kind.
    """
    for sample in samples:
        if (sample.masks if name == "segmentation" else sample.events) is None:
            raise UsageError(f"sample {sample.id!r} has no {'masks' if name == 'segmentation' else 'event labels'}")
    if name == "segmentation":
        return SegmentationTask(samples, mask_size, config.dice)
    return EventsTask(samples, classes, config)
