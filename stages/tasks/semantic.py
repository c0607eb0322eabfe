"""Class maps: a class for every pixel of every segment. Legend: B batch, T segments, C classes, H and W of maps.

Published (AVSBench): scores at 224 x 224, masks squashed to that by the nearest pixel. Ours: training sees the masks in
the same geometry (the authors crop them, see `metrics.avss_masks`; stored features are of whole frames), and the loss.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from avpipe.pipeline.datasets import read_semantic_mask
from avpipe.pipeline.manifest import Sample
from avpipe.stages.baselines import best_constant_map
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.mask import to_mask_size
from avpipe.stages.metrics import avss
from avpipe.stages.metrics.avss_frames import class_pixels
from avpipe.stages.tasks.contract import Baseline
from avpipe.stages.tasks.segmentation import nearest

ClassMap = npt.NDArray[np.uint8]


class SemanticTask:
    """A class map per segment. Predictions are class ids uint8 `[T, H, W]` at `mask_size`; they are scored as kept.

    Clips shorter than the protocol's ten frames are padded in scoring as by `avpipe score`: truth and prediction of the
    padding are background, which the scores count as `assumed_frames`.

    Args:
        samples: labelled samples.
        classes: C, background being class 0.
        mask_size: height and width of predictions, and of the masks they are compared with; 224 x 224 officially.
        dice: weight of the dice loss.
    """

    metric = "miou"

    def __init__(self, samples: Sequence[Sample], classes: int, mask_size: tuple[int, int], dice: float = 1.0) -> None:
        self.samples, self.classes, self.mask_size, self.dice = tuple(samples), classes, mask_size, dice
        self._packed: dict[tuple[int, int], bytes] = {}

    def truth(self, index: int) -> list[ClassMap | None]:
        """Class maps of a sample at `mask_size`; None where a segment has no annotation."""
        files = self.samples[index].masks or ()
        return [None if file is None else self._mask(index, segment) for segment, file in enumerate(files)]

    def loss(self, logits: Tensor, batch: FeatureBatch) -> Tensor:
        """See `class_loss`; over annotated segments in which some modality has real content.

        It is taken at the decoder's own resolution, where the logits of 40 frames and 71 classes take 46 MB (64 x 64)
        or 105 MB (96 x 96): at 224 x 224 they would take 570 MB, several times in a step.

        Args:
            logits: `[B, T, C, h, w]`.
            batch: what they are of.
        """
        size = (logits.shape[-2], logits.shape[-1])
        chosen = [
            (row, segment, nearest(self._mask(index, segment), size))
            for row, index in enumerate(batch.indices)
            for segment, file in enumerate(self.samples[index].masks or ())
            if file is not None and bool(batch.valid[row, segment])
        ]
        if not chosen:
            return logits.sum() * 0
        rows, segments, masks = zip(*chosen, strict=True)
        truth = torch.from_numpy(np.stack(masks)).to(logits.device).long()
        return class_loss(logits[list(rows), list(segments)], truth, self.dice)

    def predictions(self, logits: Tensor, batch: FeatureBatch) -> list[ClassMap]:
        """The likeliest class of each pixel of each sample's own segments.

        Logits are brought to `mask_size` frame by frame, 14 MB each with 71 classes at 224 x 224.
        """
        found = []
        for index, row in zip(batch.indices, logits.float(), strict=True):
            own = row[: len(self.samples[index].masks or ())]
            maps = [to_mask_size(frame, self.mask_size).argmax(0).to(torch.uint8) for frame in own]
            found.append(torch.stack(maps).cpu().numpy())
        return found

    def constant(self, index: int, ids: ClassMap) -> ClassMap:
        """One class map in every segment."""
        resized = nearest(ids, self.mask_size)
        return np.broadcast_to(resized, (len(self.samples[index].masks or ()), *self.mask_size))

    def blank(self, index: int) -> ClassMap:
        """Background everywhere."""
        return self.constant(index, np.zeros(self.mask_size, dtype=np.uint8))

    def validate(self, predictions: Iterable[ClassMap]) -> float:
        """The official mIoU: a mean over all classes, those that are never seen included with 0."""
        return float(self._scorer(predictions).class_sums()["class_iou"].mean())

    def values(self, index: int, prediction: ClassMap) -> npt.NDArray[np.float64]:
        """Mean IoU of every annotated frame over the classes that are predicted or true in it.

        `validate` is no mean of these: it averages frames class by class first.
        """
        truth = [(segment, mask) for segment, mask in enumerate(self.truth(index)) if mask is not None]
        if not truth:
            return np.empty(0)
        segments, masks = zip(*truth, strict=True)
        pixels = class_pixels(prediction[list(segments)], np.stack(masks), self.classes)
        mean: npt.NDArray[np.float64] = pixels.iou().sum(axis=1) / pixels.seen().sum(axis=1)
        return mean

    def score(self, predictions: Iterable[ClassMap]) -> dict[str, Any]:
        """See `metrics.avss`, protocol `avss-official`."""
        scorer = self._scorer(predictions)
        padded = sum(self._padding(index) for index in range(len(self.samples)))
        return {**scorer.result(), "padded_frames": padded, "assumed_frames": padded}

    def baselines(self, training: Sequence[Sample], classes: Sequence[str]) -> list[Baseline]:
        """`background` everywhere, and `constant_map`: see `best_constant_map`."""
        ids = best_constant_map(SemanticTask(training, self.classes, self.mask_size))
        shares = np.bincount(ids.ravel(), minlength=self.classes) / ids.size
        met = {name: float(share) for name, share in zip(classes, shares, strict=True) if share}
        count = range(len(self.samples))
        return [
            Baseline("background", {}, (self.blank(i) for i in count)),
            Baseline("constant_map", {"shares": met}, (self.constant(i, ids) for i in count)),
        ]

    def arrays(self, predictions: Sequence[ClassMap]) -> dict[str, npt.NDArray[Any]]:
        """`segments` of each sample, `predicted` class ids uint8 `[segments, H, W]`."""
        return {"segments": np.array([len(one) for one in predictions]), "predicted": np.concatenate(predictions)}

    def masks(self, most: int) -> Iterator[ClassMap]:
        """At most so many annotated class maps, spread evenly over the samples' own."""
        places = [(i, s) for i, one in enumerate(self.samples) for s, file in enumerate(one.masks or ()) if file]
        for chosen in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)):
            yield self._mask(*places[chosen])

    def _scorer(self, predictions: Iterable[ClassMap]) -> avss.AvssScorer:
        """The official scorer with all samples in it, padded by the number of their segments, annotated or not."""
        scorer = avss.AvssScorer(len(self.samples), classes=self.classes, frames=None)
        for index, prediction in enumerate(predictions):
            truth = self.truth(index)
            known = [segment for segment, mask in enumerate(truth) if mask is not None]
            padding = np.zeros((self._padding(index), *self.mask_size), dtype=np.uint8)
            theirs = [mask for mask in truth if mask is not None]
            scorer.add(index, np.concatenate([prediction[known], padding]), np.stack([*theirs, *padding]))
        return scorer

    def _padding(self, index: int) -> int:
        """Frames that the protocol adds to a sample."""
        return max(0, avss.FRAMES - len(self.samples[index].masks or ()))

    def _mask(self, index: int, segment: int) -> ClassMap:
        """One class map at `mask_size`, read once and kept compressed: 1 to 2 KB instead of 50."""
        if (index, segment) not in self._packed:
            file = (self.samples[index].masks or ())[segment]
            if file is None:
                raise AssertionError("only annotated segments are asked for")
            self._packed[index, segment] = zlib.compress(read_semantic_mask(file, self.mask_size).tobytes(), 1)
        return np.frombuffer(zlib.decompress(self._packed[index, segment]), np.uint8).reshape(self.mask_size)


def class_loss(logits: Tensor, truth: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy over all pixels alike, plus dice over the classes that are true in a frame, mean over these. Ours.

    Most pixels are background. Cross-entropy leaves them their weight, since every frame that predicts a class in vain
    costs the official score an IoU of 0; dice, in which classes of a frame count alike, keeps small objects in sight.

    Args:
        logits: `[S, C, h, w]`.
        truth: class ids, int64 `[S, h, w]`.
        dice_weight: weight of `1 - dice`.
    """
    found = functional.cross_entropy(logits, truth)
    if not dice_weight:
        return found
    chance, ids = logits.softmax(1), truth.flatten(1)
    right = chance.gather(1, truth[:, None]).flatten(1)  # S h*w, the probability of the true class
    none = torch.zeros(logits.shape[:2], dtype=right.dtype, device=logits.device)
    overlap, true = none.scatter_add(1, ids, right), none.scatter_add(1, ids, torch.ones_like(right))
    dice = 2 * overlap / (chance.sum((2, 3)) + true)
    return found + dice_weight * (1 - dice[true > 0]).mean()
