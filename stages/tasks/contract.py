"""What training and scoring ask of a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from avpipe.stages.features import FeatureBatch

Prediction = npt.NDArray[Any]


class Task(Protocol):
    """Rules of a task for one list of samples; `FeatureBatch.indices` are places in that list."""

    metric: str
    """What `validate` measures."""

    def loss(self, logits: Tensor, batch: FeatureBatch) -> Tensor:
        """Training loss of a batch, a scalar."""

    def predictions(self, logits: Tensor, batch: FeatureBatch) -> list[Prediction]:
        """What is kept and scored of each sample of a batch."""

    def blank(self, index: int) -> Prediction:
        """The prediction of a sample without features: background, or an empty mask."""

    def validate(self, predictions: Iterable[Prediction]) -> float:
        """The number by which epochs are compared; higher is better."""

    def values(self, index: int, prediction: Prediction) -> npt.NDArray[np.float64]:
        """What `validate` averages, of one sample: a number for each of its labelled segments."""

    def score(self, predictions: Iterable[Prediction]) -> dict[str, Any]:
        """Official scores of one prediction per sample, in the order of the samples."""
