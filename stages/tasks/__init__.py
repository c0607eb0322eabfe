"""What differs between tasks in training and scoring: targets, loss, predictions, official scores. One file a task."""

from __future__ import annotations

from collections.abc import Sequence

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.config import MASK_TASKS, TrainConfig
from avpipe.stages.tasks.contract import Baseline, Output, Prediction, Task
from avpipe.stages.tasks.events import EventsTask
from avpipe.stages.tasks.parsing import Parsed, ParsingTask
from avpipe.stages.tasks.segmentation import OFF_LOGIT, SegmentationTask, nearest
from avpipe.stages.tasks.semantic import SemanticTask

__all__ = [
    "OFF_LOGIT",
    "AnyTask",
    "Baseline",
    "EventsTask",
    "Output",
    "Parsed",
    "ParsingTask",
    "Prediction",
    "SegmentationTask",
    "SemanticTask",
    "Task",
    "build_task",
    "nearest",
]


AnyTask = EventsTask | ParsingTask | SegmentationTask | SemanticTask


def build_task(
    name: str, samples: Sequence[Sample], *, classes: int, mask_size: tuple[int, int], config: TrainConfig
) -> AnyTask:
    """The rules of task `name` (`events`, `parsing`, `segmentation` or `semantic`) for these samples.

    Raises:
        UsageError: a sample has no labels of that kind.
    """
    for sample in samples:
        if lacking := _lacking(name, sample):
            raise UsageError(f"sample {sample.id!r} has no {lacking}")
    if name == "segmentation":
        return SegmentationTask(samples, mask_size, config.dice)
    if name == "semantic":
        return SemanticTask(samples, classes, mask_size, config.dice)
    return ParsingTask(samples, classes, config) if name == "parsing" else EventsTask(samples, classes, config)


def _lacking(task: str, sample: Sample) -> str:
    """What a sample lacks for a task, in words; empty where it lacks nothing."""
    if task in MASK_TASKS:
        return "masks" if sample.masks is None else ""
    if task == "parsing":
        dense = sample.audio_events is not None and sample.visual_events is not None
        return "" if dense or sample.labels is not None else "labels of its clip and no dense events"
    return "event labels" if sample.events is None else ""
