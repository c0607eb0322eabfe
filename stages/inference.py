"""A trained model with its features, and its predictions for labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from avpipe.pipeline.manifest import Sample
from avpipe.stages import checkpoint, runs
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.loader import BatchReader
from avpipe.stages.model import build_model, open_trunks, reading
from avpipe.stages.runs import RunConfig
from avpipe.stages.tasks import Prediction, Task

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache


@dataclass(frozen=True)
class Trained:
    """The best checkpoint of a run and what it is shown.

    Attributes:
        model: on its device, in evaluation mode.
        data: features of the samples, at the taps that it was trained on.
        facts: what the checkpoint says of itself: `epoch`, `selected_by`.
    """

    model: nn.Module
    data: ClipFeatures
    facts: dict[str, Any]


def load_trained(
    run: Path,
    config: RunConfig,
    cache: Cache,
    samples: Sequence[Sample],
    device: torch.device,
    *,
    residency: str = "auto",
) -> Trained:
    """Loads the best checkpoint of a run, and the features of some samples.

    Args:
        run: the run folder.
        config: its settings.
        cache: holds the features; `runs.refuse_other_features` checks that they are the right ones.
        samples: labelled samples.
        device: where the model computes.
        residency: where the features are kept, see `residency`; `disk` suits a single pass.

    Raises:
        UsageError: the run has no finished epoch, the cache lacks a tap, or the residency cannot be.
    """
    model = build_model(config.model, config.train, open_trunks(cache, config.model, config.train, str(device)))
    facts = checkpoint.restore(run / runs.BEST, model)
    read = reading(config.model, config.train)
    clips = [sample.clip for sample in samples]
    store = FeatureStore(cache, read.taps, clips, residency=residency, device=device, media=read.media)
    return Trained(model.to(device).eval(), ClipFeatures(store, samples), facts)


def predict_samples(
    model: nn.Module,
    data: ClipFeatures,
    task: Task,
    *,
    batch: int,
    device: torch.device,
    advance: Callable[[int], object] = lambda samples: None,
    reader: BatchReader | None = None,
) -> list[Prediction]:
    """One prediction per sample of `data`, in order; samples without features get the task's blank one.

    Args:
        model: gives logits for a `FeatureBatch`.
        data: features of the samples.
        task: rules for the same samples.
        batch: samples at a time.
        device: where the model lies.
        advance: called with the number of samples done.
        reader: reads the batches; default: one of its own.
    """
    reader = reader or BatchReader(data.store, batch, device)
    found: dict[int, Prediction] = {}
    model.eval()
    with torch.no_grad(), reader.batches(data, list(data.batches(batch))) as batches:
        for features in batches:
            found.update(zip(features.indices, task.predictions(model(features), features), strict=True))
            advance(len(features.indices))
    return [found[i] if i in found else task.blank(i) for i in range(len(data))]
