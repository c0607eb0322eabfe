"""Binary masks: one for every segment. Legend: B batch, T segments, H and W height and width of masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.pipeline.datasets import read_mask
from avpipe.pipeline.manifest import Sample
from avpipe.stages.baselines import best_constant_mask
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.mask import mask_loss, to_mask_size
from avpipe.stages.metrics import avs
from avpipe.stages.tasks.contract import Baseline, Prediction

OFF_LOGIT = -20.0
"""Logit of a pixel that is surely off."""
Value = TypeVar("Value", bound=np.generic)


class SegmentationTask:
    """A mask per segment. Predictions are float16 logits `[T, H, W]` at `mask_size`; they are scored as kept.

    Args:
        samples: labelled samples.
        mask_size: height and width at which masks are trained and predicted.
        dice: weight of the dice loss.
    """

    metric = "miou"

    def __init__(self, samples: Sequence[Sample], mask_size: tuple[int, int], dice: float = 1.0) -> None:
        self.samples, self.mask_size, self.dice = tuple(samples), mask_size, dice
        self._packed: dict[tuple[int, int], tuple[npt.NDArray[np.uint8], tuple[int, int]]] = {}

    def truth(self, index: int) -> list[npt.NDArray[np.bool_] | None]:
        """Masks of a sample at their own size; None where a segment has no annotation."""
        files = self.samples[index].masks or ()
        return [None if file is None else self._mask(index, segment) for segment, file in enumerate(files)]

    def loss(self, logits: Tensor, batch: FeatureBatch) -> Tensor:
        """Cross-entropy and dice over annotated segments in which some modality has real content."""
        targets = [self.truth(i) for i in batch.indices]
        chosen = [
            (row, segment, mask)
            for row, masks in enumerate(targets)
            for segment, mask in enumerate(masks)
            if mask is not None and bool(batch.valid[row, segment])
        ]
        if not chosen:
            return logits.sum() * 0
        rows, segments, masks = zip(*chosen, strict=True)
        stacked = np.stack([nearest(mask, self.mask_size) for mask in masks]).astype(np.float32)
        picked = to_mask_size(logits[list(rows), list(segments)], self.mask_size)
        return mask_loss(picked, torch.from_numpy(stacked).to(logits.device), self.dice)

    def predictions(self, logits: Tensor, batch: FeatureBatch) -> list[Prediction]:
        """Logits of each sample's own segments at `mask_size`."""
        full = to_mask_size(logits.flatten(0, 1), self.mask_size).view(*logits.shape[:2], *self.mask_size)
        kept = full.clamp(-60, 60).half().cpu().numpy()
        return [row[: len(self.samples[i].masks or ())] for i, row in zip(batch.indices, kept, strict=True)]

    def constant(self, index: int, mask: npt.NDArray[np.bool_]) -> Prediction:
        """One mask in every segment."""
        logits = np.where(nearest(mask, self.mask_size), -OFF_LOGIT, OFF_LOGIT).astype(np.float16)
        return np.broadcast_to(logits, (len(self.samples[index].masks or ()), *self.mask_size))

    def blank(self, index: int) -> Prediction:
        """An empty mask in every segment."""
        return self.constant(index, np.zeros(self.mask_size, dtype=bool))

    def validate(self, predictions: Iterable[Prediction]) -> float:
        """Mean IoU over all annotated frames: one video a batch, as the authors validate."""
        return float(np.mean(np.concatenate([self.values(i, logits) for i, logits in enumerate(predictions)])))

    def values(self, index: int, prediction: Prediction) -> npt.NDArray[np.float64]:
        """IoU of every annotated frame."""
        found = [avs.frame_iou(chance, mask) for chance, mask in self._pairs(index, prediction)]
        return np.concatenate(found) if found else np.empty(0)

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Any]:
        """See `metrics.avs`, protocol `avsbench-batch4`; `other_protocols` has the others."""
        videos = [
            avs.join([avs.frame_scores(chance, mask) for chance, mask in self._pairs(index, logits)])
            for index, logits in enumerate(predictions)
        ]
        others = {name: avs.score(videos, name) for name in avs.PROTOCOLS if name != avs.DEFAULT_PROTOCOL}
        return {**avs.score(videos), "other_protocols": others}

    def baselines(self, training: Sequence[Sample], classes: Sequence[str]) -> list[Baseline]:
        """`constant_mask`: the mask that fits the training frames best, in every segment."""
        mask = best_constant_mask(SegmentationTask(training, self.mask_size))
        constant = (self.constant(i, mask) for i in range(len(self.samples)))
        return [Baseline("constant_mask", {"share_on": float(mask.mean())}, constant)]

    def arrays(self, predictions: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """`segments` of each sample, `logits` `[segments, H, W]`."""
        return {"segments": np.array([len(one) for one in predictions]), "logits": np.concatenate(predictions)}

    def masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Every annotated mask of the samples, at the task's mask size."""
        for index in range(len(self.samples)):
            for mask in self.truth(index):
                if mask is not None:
                    yield nearest(mask, self.mask_size)

    def _pairs(self, index: int, logits: Prediction) -> Iterator[tuple[Prediction, Prediction]]:
        """Probabilities and truth `[1, H, W]` of one sample's annotated frames, each at its mask's size."""
        for segment, mask in enumerate(self.truth(index)):
            if mask is None:
                continue
            own = logits[segment]
            if mask.shape != own.shape:
                resized = to_mask_size(torch.from_numpy(own.astype(np.float32))[None], (mask.shape[0], mask.shape[1]))
                own = resized[0].numpy()
            yield avs.probabilities(own[None]), mask[None]

    def _mask(self, index: int, segment: int) -> npt.NDArray[np.bool_]:
        """One mask, read once and kept in packed bits."""
        if (index, segment) not in self._packed:
            file = (self.samples[index].masks or ())[segment]
            if file is None:
                raise AssertionError("only annotated segments are asked for")
            mask = read_mask(file)
            self._packed[index, segment] = np.packbits(mask), (mask.shape[0], mask.shape[1])
        bits, shape = self._packed[index, segment]
        return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def nearest(mask: npt.NDArray[Value], size: tuple[int, int]) -> npt.NDArray[Value]:
    """The mask or class map at another size, each pixel from the nearest one."""
    if mask.shape == size:
        return mask
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(size, mask.shape, strict=True))
    resized: npt.NDArray[Value] = mask[rows.astype(int)[:, None], columns.astype(int)]
    return resized
