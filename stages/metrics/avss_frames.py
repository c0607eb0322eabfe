"""Class maps, frame by frame: pixels of every class that are predicted, true, or both, and the IoU and F they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.metrics.common import require_classes

BETA_SQUARED = 0.3


@dataclass(frozen=True, slots=True)
class ClassPixels:
    """Pixels of each class, in each of some frames or videos.

    Attributes:
        shared: where prediction and truth are both of the class, int64 `[..., classes]`.
        predicted: where the prediction is.
        true: where the truth is.
    """

    shared: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]

    @classmethod
    def none(cls, rows: int, classes: int) -> ClassPixels:
        """Zeros `[rows, classes]`."""
        return cls(*(np.zeros((rows, classes), dtype=np.int64) for _ in range(3)))

    def seen(self) -> npt.NDArray[np.bool_]:
        """Whether the class is predicted or true at all."""
        return np.asarray(self.predicted + self.true > 0)

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union; 0 where the class is not seen."""
        return _share(self.shared, self.predicted + self.true - self.shared)

    def fscore(self) -> npt.NDArray[np.float64]:
        """F of precision and recall, beta squared 0.3; 0 where the class is not seen or no pixel is right."""
        return _share((1 + BETA_SQUARED) * self.shared, BETA_SQUARED * self.true + self.predicted)


def class_pixels(predicted: npt.NDArray[np.integer], truth: npt.NDArray[np.integer], classes: int) -> ClassPixels:
    """Counts the pixels of every frame, from one histogram of pairs of classes.

    Args:
        predicted: class ids `[F, H, W]`.
        truth: class ids of the same shape.
        classes: number of classes.

    Raises:
        UsageError: a class id does not exist, or the arrays hold no integers.
    """
    require_classes(predicted, classes, "predictions")
    require_classes(truth, classes, "labels")
    found = ClassPixels.none(len(truth), classes)
    for frame, (ours, theirs) in enumerate(zip(predicted, truth, strict=True)):
        confusion = pixel_confusion(ours, theirs, classes)
        found.shared[frame] = np.diagonal(confusion)
        found.predicted[frame], found.true[frame] = confusion.sum(axis=1), confusion.sum(axis=0)
    return found


def pixel_confusion(predicted: npt.NDArray[Any], truth: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """Pixels of a frame by predicted (row) and true class (column), `[classes, classes]`; all ids must be known."""
    pair = np.uint16 if classes**2 <= 2**16 else np.int64
    ours: Any = predicted.astype(pair)
    pairs = ours * pair(classes) + truth.astype(pair)
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def mean_nonzero_iou(pixels: ClassPixels) -> npt.NDArray[np.float64]:
    """Mean IoU of each frame over its classes whose IoU is not 0; NaN where there is none. `[F]`."""
    iou = pixels.iou()
    right = np.count_nonzero(iou, axis=-1)
    return np.where(right > 0, iou.sum(axis=-1) / np.maximum(right, 1), np.nan)


def _share(part: npt.NDArray[np.number], whole: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """The quotient, 0 where there is nothing."""
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0), dtype=np.float64)
