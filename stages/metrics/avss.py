"""AVSBench AVSS: IoU and F of class maps, as the official evaluator computes them, and pooled over the set.

Protocol `avss-official`: in every frame, each class that is predicted or true has an IoU and an F (beta squared 0.3, 0
without a right pixel), so a false alarm counts as a zero. They are averaged per class over its frames; classes that are
never seen get 0; the scores are means over all classes. Quirks that are kept, since published numbers have them:

- classes never seen pull the mean down; `miou_over_seen` and `fscore_over_seen` leave them out;
- what the authors call "no background" drops the last class, not class 0: here `..._without_last_class`;
- clips of five frames are padded to ten with label 0 and black frames, and the padding is scored.

Protocol `avss-pooled` (CAVP): intersections and unions are summed over the set first; IoU is a mean over all classes, F
one over classes that are predicted or true anywhere, rounded to four places. The two are not comparable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics.avss_frames import ClassPixels, class_pixels
from avpipe.stages.metrics.common import Received

PROTOCOL = "avss-official"
POOLED_PROTOCOL = "avss-pooled"
CLASSES = 71
FRAMES = 10
"""Frames of every clip after the official padding."""
Floats = npt.NDArray[np.float64]


class AvssScorer:
    """Scores of videos that come one by one, in any order.

    Six numbers for each class and video are kept, whatever the length and size of videos. `add` may be called from
    several threads; no order of adding changes a bit of the result.

    Args:
        videos: how many the set has.
        classes: number of classes, background being class 0.
        frames: length to which shorter clips are padded, 10 in the official protocol; None: no padding.

    Raises:
        UsageError: there is no video, or less than two classes.
    """

    def __init__(self, videos: int, *, classes: int = CLASSES, frames: int | None = FRAMES) -> None:
        if classes < 2:
            raise UsageError(f"class maps have at least two classes (background and one more), not {classes}")
        self.classes, self.frames = classes, frames
        self._received = Received(videos, "video")
        self._iou, self._fscore = np.zeros((videos, classes)), np.zeros((videos, classes))  # summed over frames
        self._count = np.zeros((videos, classes), dtype=np.int64)  # frames in which the class is seen
        self._pixels = ClassPixels.none(videos, classes)
        self._frames, self._padded, self._assumed = (np.zeros(videos, dtype=np.int64) for _ in range(3))

    def add(self, index: int, predicted: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Scores one video.

        Args:
            index: its place in official order.
            predicted: class ids `[F, H, W]`. For a clip that is padded, as many frames as the padding makes (what the
                model says to black frames), or as many as the truth has: the others then count as predicted
                background. A blank prediction is all zeros.
            truth: class ids `[F, H, W]` at the same size (see `avss_masks` for the official one), annotated frames
                only.

        Raises:
            UsageError: shapes that do not belong together, an unknown class, or the place is wrong or taken.
        """
        ours, theirs = np.asarray(predicted), np.asarray(truth)
        self._check_shapes(ours.shape, theirs.shape)
        length = max(len(theirs), self.frames or 0)
        pixels = class_pixels(_pad(ours, length), _pad(theirs, length), self.classes)
        self._received.take(index)
        self._iou[index], self._fscore[index] = pixels.iou().sum(axis=0), pixels.fscore().sum(axis=0)
        self._count[index] = pixels.seen().sum(axis=0)
        for name in ("shared", "predicted", "true"):
            getattr(self._pixels, name)[index] = getattr(pixels, name).sum(axis=0)
        self._frames[index] = length
        self._padded[index], self._assumed[index] = length - len(theirs), length - len(ours)

    def result(self) -> dict[str, Any]:
        """Scores by `avss-official`, as fractions.

        Returns:
            `protocol`; `miou`, `fscore` (means over all classes); both with `_without_last_class` and `_over_seen`;
            `classes`, `classes_seen`, `classes_never_seen`; `videos`, `frames` (with padding); `padded_frames` (how
            many of them are padding) and `assumed_frames` (how many of them had no prediction and counted as
            predicted background); `other_protocols` has `avss-pooled` with its `protocol`, `miou` and `fscore`.

        Raises:
            UsageError: a video was never added, or there is no pixel.
        """
        sums = self.class_sums()
        iou, fscore, seen = sums["class_iou"], sums["class_fscore"], sums["class_count"] > 0
        return {
            "protocol": PROTOCOL,
            "miou": float(iou.mean()),
            "fscore": float(fscore.mean()),
            "miou_without_last_class": float(iou[:-1].mean()),
            "fscore_without_last_class": float(fscore[:-1].mean()),
            "miou_over_seen": float(iou[seen].mean()),
            "fscore_over_seen": float(fscore[seen].mean()),
            "classes": self.classes,
            "classes_seen": int(seen.sum()),
            "classes_never_seen": int((~seen).sum()),
            "videos": len(self._frames),
            "frames": int(self._frames.sum()),
            "padded_frames": int(self._padded.sum()),
            "assumed_frames": int(self._assumed.sum()),
            "other_protocols": {POOLED_PROTOCOL: self._pooled()},
        }

    def class_sums(self) -> dict[str, Floats]:
        """`iou_sum` and `fscore_sum` (over frames), `class_count` (frames), `class_iou`, `class_fscore`: `[classes]`.

        Raises:
            UsageError: as `result`.
        """
        self._received.require_all()
        iou, fscore, count = (part.sum(axis=0) for part in (self._iou, self._fscore, self._count))
        if not count.any():
            raise UsageError("there is no pixel to score")
        often = np.maximum(count, 1)
        return {
            "iou_sum": iou,
            "fscore_sum": fscore,
            "class_count": count.astype(np.float64),
            "class_iou": iou / often,
            "class_fscore": fscore / often,
        }

    def _pooled(self) -> dict[str, Any]:
        """Scores by `avss-pooled`."""
        parts = (self._pixels.shared, self._pixels.predicted, self._pixels.true)
        pooled = ClassPixels(*(part.sum(axis=0) for part in parts))
        fscore = np.round(pooled.fscore()[pooled.seen()].mean(), 4)
        return {"protocol": POOLED_PROTOCOL, "miou": float(pooled.iou().mean()), "fscore": float(fscore)}

    def _check_shapes(self, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        """Refuses a prediction that has neither as many frames as the truth nor as many as padding makes."""
        if len(theirs) != 3:
            raise UsageError(f"labels have shape {theirs}: they must be class ids [frames, H, W]")
        wanted = {theirs, (max(theirs[0], self.frames or 0), *theirs[1:])}
        if ours not in wanted:
            shapes = " or ".join(map(str, sorted(wanted)))
            raise UsageError(f"the prediction has shape {ours}, but the labels call for {shapes}")


def _pad(maps: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Class maps with frames of class 0 added at the end."""
    if len(maps) == length:
        return maps
    return np.concatenate([maps, np.zeros((length - len(maps), *maps.shape[1:]), dtype=maps.dtype)])
