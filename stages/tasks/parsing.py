"""Video parsing: which classes are heard and which are seen, in every segment. Training reads labels of whole clips.

Legend: B batch, T segments, C classes; modalities are audio and visual, in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.pipeline.manifest import Sample
from avpipe.stages.baselines import frequent_classes
from avpipe.stages.config import MODALITIES, TrainConfig
from avpipe.stages.features import FeatureBatch
from avpipe.stages.heads.parsing import ParsingOutput, parsing_loss
from avpipe.stages.metrics import llp
from avpipe.stages.tasks.contract import Baseline

Maps = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""What is heard and what is seen, bool `[C, T]` each."""


class Parsed(NamedTuple):
    """The prediction of one sample.

    Attributes:
        segment: probabilities float32 `[T, 2, C]`, audio and visual; 0 for a modality that the model does not see.
        video: probabilities of the classes in the whole clip, float32 `[C]`; they gate the segments.
    """

    segment: npt.NDArray[np.float32]
    video: npt.NDArray[np.float32]


class ParsingTask:
    """Classes heard and seen in every segment. Predictions are `Parsed`.

    Training needs the `labels` of samples and nothing else; scoring needs their dense events and nothing else.

    Args:
        samples: labelled samples.
        classes: C.
        config: gives the modalities and the smoothing of visual labels.
    """

    metric = "segment_type_av"

    def __init__(self, samples: Sequence[Sample], classes: int, config: TrainConfig | None = None) -> None:
        self.samples, self.classes, self.config = tuple(samples), classes, config or TrainConfig()
        self._labels = torch.zeros(len(self.samples), classes)
        for row, sample in zip(self._labels, self.samples, strict=True):
            row[list(sample.labels or ())] = 1.0

    def truth(self, index: int) -> Maps:
        """What is heard and what is seen in a sample."""
        sample = self.samples[index]
        heard, seen = (
            llp.event_map(events or (), self.classes, sample.segments)
            for events in (sample.audio_events, sample.visual_events)
        )
        return heard, seen

    def decide(self, prediction: Parsed) -> Maps:
        """The maps of a prediction, through the gate of the official evaluation."""
        maps = llp.gate(prediction.segment.transpose(1, 2, 0), np.stack([prediction.video] * len(MODALITIES)))
        return maps[0], maps[1]

    def loss(self, output: ParsingOutput, batch: FeatureBatch) -> Tensor:
        """See `parsing_loss`; clips without any segment of real content are left out, and of those with some in one
        modality alone the other's own term: its label is not that of a stand-in."""
        device = output.video.device
        labels, counted = self._labels[list(batch.indices)].to(device), batch.valid.any(dim=1).to(device)
        names = self.config.modalities
        real = torch.stack([batch.real.get(m, batch.valid).any(dim=1) for m in names], dim=1).to(device)
        return parsing_loss(output, labels, names, self.config.smoothing, counted, real)

    def predictions(self, output: ParsingOutput, batch: FeatureBatch) -> list[Parsed]:
        """Probabilities of each sample's own segments."""
        segments, videos = output.segment.float().cpu().numpy(), output.video.float().cpu().numpy()
        places = [MODALITIES.index(modality) for modality in self.config.modalities]
        found = []
        for row, index in enumerate(batch.indices):
            prediction = self.blank(index)
            prediction.segment[:, places] = segments[row, : len(prediction.segment)]
            found.append(prediction._replace(video=videos[row]))
        return found

    def constant(self, index: int, classes: Sequence[int]) -> Parsed:
        """Some classes, heard and seen in every segment."""
        video = np.zeros(self.classes, dtype=np.float32)
        video[list(classes)] = 1
        return Parsed(np.tile(video, (self.samples[index].segments, len(MODALITIES), 1)), video)

    def blank(self, index: int) -> Parsed:
        """Nothing heard, nothing seen."""
        return self.constant(index, ())

    def validate(self, predictions: Iterable[Parsed]) -> float:
        """Segment-level Type@AV: the number by which the authors' program chooses the epoch."""
        return float(np.mean([self.values(index, one)[0] for index, one in enumerate(predictions)]))

    def values(self, index: int, prediction: Parsed) -> npt.NDArray[np.float64]:
        """Segment-level Type@AV of one sample: the mean of its F for audio, visual and both."""
        maps = (*self.decide(prediction), *self.truth(index))
        per_video = llp.video_scores(*(one[None] for one in maps))
        return np.array([llp.summary(per_video)["segment_type_av"]])

    def score(self, predictions: Iterable[Parsed]) -> dict[str, Any]:
        """See `metrics.llp`, protocol `llp-official`."""
        scorer = llp.LlpScorer(len(self.samples))
        for index, prediction in enumerate(predictions):
            scorer.add(index, *self.decide(prediction), *self.truth(index))
        return scorer.result()

    def baselines(self, training: Sequence[Sample], classes: Sequence[str]) -> list[Baseline]:
        """`frequent_classes`: the set of classes that fits the weak labels of training best, in every segment of both
        modalities. `nothing`: no class anywhere, which is right wherever nothing is both heard and seen."""
        usual = frequent_classes(training, self.classes)
        count = len(self.samples)
        return [
            Baseline(
                "frequent_classes",
                {"classes": [classes[number] for number in usual]},
                (self.constant(index, usual) for index in range(count)),
            ),
            Baseline("nothing", {}, (self.blank(index) for index in range(count))),
        ]

    def arrays(self, predictions: Sequence[Parsed]) -> dict[str, npt.NDArray[Any]]:
        """`segments` of each sample, `segment_probability` `[segments, 2, C]`, `video_probability` `[samples, C]`."""
        return {
            "segments": np.array([len(one.segment) for one in predictions]),
            "segment_probability": np.concatenate([one.segment for one in predictions]),
            "video_probability": np.stack([one.video for one in predictions]),
        }
