"""What training and scoring ask of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from avpipe.pipeline.manifest import Sample
from avpipe.stages.features import FeatureBatch

Prediction = Any
"""What is kept and scored of one sample, in a form of the task's own."""
Output = Any
"""What the task's model gives for a batch: logits, or several tensors."""


@dataclass(frozen=True)
class Baseline:
    """An answer that ignores its input: what any model has to beat.

    Attributes:
        name: key in `metrics.json`.
        about: what the answer is, JSON-ready; written beside its scores.
        predictions: one for each of the task's samples.
    """

    name: str
    about: dict[str, Any]
    predictions: Iterable[Prediction]


class Task(Protocol):
    """Rules of a task for one list of samples; `FeatureBatch.indices` are places in that list."""

    metric: str
    """What `validate` measures."""

    def loss(self, output: Output, batch: FeatureBatch, /) -> Tensor:
        """Training loss of a batch, a scalar."""

    def predictions(self, output: Output, batch: FeatureBatch, /) -> list[Prediction]:
        """What is kept and scored of each sample of a batch."""

    def blank(self, index: int) -> Prediction:
        """The prediction of a sample without features: background, an empty mask, nothing heard and nothing seen."""

    def validate(self, predictions: Iterable[Prediction]) -> float:
        """The number by which epochs are compared; higher is better."""

    def values(self, index: int, prediction: Prediction) -> npt.NDArray[np.float64]:
        """How good one sample is: a number for each of its labelled segments, or one (parsing).

        `validate` is their mean over all samples, but for class maps: see `SemanticTask.values`.
        """

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Any]:
        """Official scores of one prediction per sample, in the order of the samples."""

    def baselines(self, training: Sequence[Sample], classes: Sequence[str]) -> list[Baseline]:
        """Answers that ignore their input, learned from the labels of training samples.

        Args:
            training: samples of the training split.
            classes: names of the classes, in order of their ids.
        """

    def arrays(self, predictions: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """One prediction per sample as arrays in a form that `avpipe score` reads.

        `segments` says how many each sample has; the other arrays have all segments one after the other, or a row for
        each sample.
        """
