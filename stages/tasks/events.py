"""Event localisation: a class for every segment. Legend: B batch, T segments, C classes, background the last.

With `supervision=weak` training knows of each video only which events it holds, as AVE's `mil_labels` do; validation
and test keep to the official labels of segments.

- Published (AVEL, which PSP and CMBS follow): one label a video, the scores of its segments pooled over time; and 178
  videos of background alone beside AVE's own, from which the models learn what background is.
- Ours: those videos are lost (and other data have none), so background is learned from pairs that do not belong
  together: the pictures of one clip with the sound of another, where the two are labelled with different events. Such a
  pair should hold no event in any segment. `crossed` weighs that loss, 0 leaves it out. PSP's other label, the share of
  the segments that each class has, is not used: it tells how much background there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.pipeline.manifest import Sample
from avpipe.stages.baselines import majority_class
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.event import Crossed, EventOutput, background_loss, segment_loss, video_loss
from avpipe.stages.heads.event_cmbs import TwoHead
from avpipe.stages.heads.event_losses import IGNORED
from avpipe.stages.metrics import ave
from avpipe.stages.tasks.contract import Baseline, Prediction

BARELY = 2.0**-20
"""How far below 0 a relevance logit is at least where its float32 sigmoid is not above one half."""


class EventsTask:
    """A class per segment. Predictions are float32 scores `[T, classes]`; the highest is the class.

    Args:
        samples: labelled samples.
        classes: number of classes; background is the last.
        config: settings; default: the usual ones.
    """

    metric = "accuracy"

    def __init__(self, samples: Sequence[Sample], classes: int, config: TrainConfig | None = None) -> None:
        self.classes, self.config = classes, config or TrainConfig()
        self.two_head = self.config.head == "cmbs"
        self.truth = [np.asarray(sample.events, dtype=np.int64) for sample in samples]
        self._labels = torch.full((len(samples), max((len(t) for t in self.truth), default=0)), IGNORED)
        for row, truth in zip(self._labels, self.truth, strict=True):
            row[: len(truth)] = torch.from_numpy(truth)
        self._videos = torch.zeros((len(samples), classes))
        for row, truth in zip(self._videos, self.truth, strict=True):
            row[torch.from_numpy(truth)] = 1
            row[-1] = float(not row[:-1].any())  # background only where there is nothing else

    def loss(self, output: EventOutput | Crossed, batch: FeatureBatch) -> Tensor:
        """The head's loss; segments in which no modality has real content are left out."""
        if self.config.supervision == "weak":
            return self._weak_loss(output, batch)
        assert not isinstance(output, Crossed)
        labels = self._labels[list(batch.indices), : batch.valid.shape[1]].to(batch.valid.device)
        return segment_loss(output, labels.masked_fill(~batch.valid, IGNORED), self.config.head)

    def _weak_loss(self, output: EventOutput | Crossed, batch: FeatureBatch) -> Tensor:
        """The loss from labels of videos, and that of pairs that do not belong together."""
        wanted = self._videos[list(batch.indices)].to(batch.valid.device)
        if not isinstance(output, Crossed):
            return video_loss(output, wanted, batch.valid)
        apart = (wanted * wanted.roll(1, 0)).sum(1) == 0
        counted = batch.valid & batch.valid.roll(1, 0) & apart[:, None]
        crossed = background_loss(output.crossed, counted)
        return video_loss(output.own, wanted, batch.valid) + self.config.crossed * crossed

    def predictions(self, output: EventOutput | Crossed, batch: FeatureBatch) -> list[Prediction]:
        """Scores of each sample's own segments; see `two_head_scores` for the two-head model."""
        assert not isinstance(output, Crossed)
        logits = two_head_scores(output) if isinstance(output, TwoHead) else output
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
        """See `metrics.ave`; the two-head model's scores have names of their own."""
        scorer = ave.AveScorer(len(self.truth), two_head=self.two_head)
        for index, scores in enumerate(predictions):
            scorer.add(index, ave.decide(scores), self.truth[index])
        return scorer.result()

    def baselines(self, training: Sequence[Sample], classes: Sequence[str]) -> list[Baseline]:
        """`majority_class`: the class of most training segments, in every segment."""
        usual = majority_class(training, self.classes)
        constant = (self.constant(i, usual) for i in range(len(self.truth)))
        return [Baseline("majority_class", {"class": classes[usual]}, constant)]

    def arrays(self, predictions: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """`segments` of each sample, `scores` `[segments, C]` and the `predicted` class ids.

        Of the two-head model also what its official decision is made from: `event_logit` `[segments]` and `class_logit`
        `[samples, C - 1]`, the latter less its highest value.
        """
        scores = np.concatenate(predictions)
        segments = np.array([len(one) for one in predictions])
        found = {"segments": segments, "scores": scores, "predicted": ave.decide(scores)}
        if self.two_head:
            found |= {"event_logit": -scores[:, -1], "class_logit": np.stack([one[0, :-1] for one in predictions])}
        return found


def two_head_scores(output: TwoHead) -> Tensor:
    """Scores `[B, T, C]` of which the highest is the official decision, see `metrics.ave.decide_two_head`.

    The events have the category's logits less their highest, in every segment; background has minus the relevance.
    So the best event stands at 0 and wins where the relevance is above 0; their softmax is that of relevance against
    none, spread over the events by the category.
    """
    relevance = output.relevance.float()
    event = torch.sigmoid(relevance) > 0.5
    relevance = torch.where(event, relevance, relevance.clamp_max(-BARELY))
    category = output.category.float()
    category = (category - category.amax(1, keepdim=True))[:, None].expand(-1, relevance.shape[1], -1)
    return torch.cat([category, -relevance[..., None]], dim=-1)
