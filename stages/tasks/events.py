"""Event localisation: a class for every segment. Legend: B batch, T segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.pipeline.manifest import Sample
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.event import IGNORED, event_loss
from avpipe.stages.metrics import ave
from avpipe.stages.tasks.contract import Prediction


class EventsTask:
    """A class per segment. Predictions are float32 scores `[T, classes]`.

    Args:
        samples: labelled samples.
        classes: number of classes; background is the last.
    """

    metric = "accuracy"

    def __init__(self, samples: Sequence[Sample], classes: int, config: TrainConfig | None = None) -> None:
        self.classes, self.config = classes, config or TrainConfig()
        self.truth = [np.asarray(sample.events, dtype=np.int64) for sample in samples]
        self._labels = torch.full((len(samples), max((len(t) for t in self.truth), default=0)), IGNORED)
        for row, truth in zip(self._labels, self.truth, strict=True):
            row[: len(truth)] = torch.from_numpy(truth)

    def loss(self, logits: Tensor, batch: FeatureBatch) -> Tensor:
        """Cross-entropy; segments in which no modality has real content are left out."""
        labels = self._labels[list(batch.indices), : logits.shape[1]].to(logits.device)
        return event_loss(logits, labels.masked_fill(~batch.valid, IGNORED))

    def predictions(self, logits: Tensor, batch: FeatureBatch) -> list[Prediction]:
        """Scores of each sample's own segments."""
        scores = logits.float().cpu().numpy()
        return [row[: len(self.truth[i])] for i, row in zip(batch.indices, scores, strict=True)]

    def constant(self, index: int, class_id: int) -> Prediction:
        """One class in every segment."""
        return np.tile(np.eye(self.classes, dtype=np.float32)[class_id], (len(self.truth[index]), 1))

    def blank(self, index: int) -> Prediction:
        """Background in every segment."""
        return self.constant(index, self.classes - 1)

    def validate(self, predictions: Iterable[Prediction]) -> float:
        """Segment accuracy."""
        return float(self.score(predictions)["accuracy"])

    def values(self, index: int, prediction: Prediction) -> npt.NDArray[np.float64]:
        """1 for every segment that got its class, else 0."""
        return np.asarray(ave.decide(prediction) == self.truth[index], dtype=np.float64)

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Any]:
        """See `metrics.ave`."""
        decided = [ave.decide(scores) for scores in predictions]
        return ave.segment_accuracy(np.concatenate(decided), np.concatenate(self.truth))
