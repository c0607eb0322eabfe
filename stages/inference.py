"""Predictions of a trained model for labelled samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from avpipe.stages.features import ClipFeatures
from avpipe.stages.tasks import Prediction, Task


def predict_samples(
    model: nn.Module,
    data: ClipFeatures,
    task: Task,
    *,
    batch: int,
    device: torch.device,
    advance: Callable[[int], object] = lambda samples: None,
) -> list[Prediction]:
    """One prediction per sample of `data`, in order; samples without features get the task's blank one.

    Args:
        model: gives logits for a `FeatureBatch`.
        data: features of the samples.
        task: rules for the same samples.
        batch: samples at a time.
        device: where the model lies.
        advance: called with the number of samples done.
    """
    found: dict[int, Prediction] = {}
    model.eval()
    with torch.no_grad():
        for indices in data.batches(batch):
            features = data.batch(indices).to(device)
            found.update(zip(indices, task.predictions(model(features), features), strict=True))
            advance(len(indices))
    return [found[i] if i in found else task.blank(i) for i in range(len(data))]
