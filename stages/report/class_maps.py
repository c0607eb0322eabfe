"""Class maps in a report: how good each frame is, which classes a clip has, and which are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.metrics.avss_frames import pixel_confusion
from avpipe.stages.report import media
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks.semantic import ClassMap, SemanticTask


def predicted(sources: Sources, index: int) -> ClassMap:
    """The stored class maps of one sample, `[T, H, W]`."""
    start, end = sources.starts[index : index + 2]
    maps: ClassMap = sources.predictions["predicted"][start:end]
    return maps


def entry(sources: Sources, task: SemanticTask, index: int) -> dict[str, Any]:
    """What the page says of one sample.

    `iou` by segment is the mean over the classes that are predicted or true there, None without annotation; `empty` and
    `painted` are as of binary masks, see `samples.rows`; `true` and `predicted` are the objects of each segment, by
    class id. `score` is the mean of `iou`.
    """
    maps, truth = predicted(sources, index), task.truth(index)
    values = iter(task.values(index, maps).tolist())
    iou = [None if mask is None else round(float(next(values)), 6) for mask in truth]
    return {
        "score": float(np.mean([value for value in iou if value is not None])),
        "segments": len(truth),
        "iou": iou,
        "empty": [None if mask is None else not mask.any() for mask in truth],
        "painted": [round(float((ids > 0).mean()), 4) for ids in maps],
        "true": [None if mask is None else _objects(mask) for mask in truth],
        "predicted": [_objects(ids) for ids in maps],
    }


def pictures(sources: Sources, task: SemanticTask, index: int) -> dict[str, Any]:
    """True and predicted class maps of a sample as grey pictures whose values are class ids."""
    return {
        "size": list(task.mask_size),
        "truth": [None if ids is None else media.grey(ids) for ids in task.truth(index)],
        "predicted": [media.grey(ids) for ids in predicted(sources, index)],
    }


def confusion(sources: Sources, task: SemanticTask) -> dict[str, Any]:
    """How many pixels of each true class (row) were predicted as each class (column), over annotated frames.

    Classes that occur in neither are left out.
    """
    counts = np.zeros((task.classes, task.classes), dtype=np.int64)
    for index in range(len(sources.samples)):
        for ours, theirs in zip(predicted(sources, index), task.truth(index), strict=True):
            if theirs is not None:
                counts += pixel_confusion(ours, theirs, task.classes).T
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    chosen = counts[np.ix_(used, used)]
    return {"classes": [sources.config.classes[i] for i in used], "counts": chosen.tolist(), "unit": "pixel"}


def same_everywhere(sources: Sources) -> str:
    """What every pixel of the split was predicted as, in words; an empty text where that is more than one class."""
    lowest, highest = int(sources.predictions["predicted"].min()), int(sources.predictions["predicted"].max())
    return sources.config.classes[lowest] if lowest == highest else ""


def _objects(ids: npt.NDArray[np.uint8]) -> list[int]:
    """Classes of a frame but background."""
    return [int(number) for number in np.unique(ids) if number]
