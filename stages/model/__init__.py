"""The model of a run: what it is built for (`plan`, `spec`), on cached tokens (`cached`) or a live backbone (`mti`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from avpipe.stages.config import MASK_TASKS, TrainConfig
from avpipe.stages.model.cached import EventModel, MaskModel, ParsingModel
from avpipe.stages.model.lavish import LavishModel
from avpipe.stages.model.mti import MtiModel
from avpipe.stages.model.plan import injection_in_words, model_spec, taps_for
from avpipe.stages.model.spec import ModelSpec, Reading, describe, reading, shapes_of
from avpipe.stages.taps import bare

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache
    from avpipe.stages.backbones.trunk import Trunk

__all__ = [
    "MASK_TASKS",
    "ModelSpec",
    "Reading",
    "build_model",
    "describe",
    "injection_in_words",
    "model_spec",
    "open_trunks",
    "reading",
    "shapes_of",
    "taps_for",
]


def open_trunks(cache: Cache, spec: ModelSpec, config: TrainConfig, device: str) -> dict[str, Trunk]:
    """The frozen backbones that a model runs itself, by modality; empty where it works on cached tokens alone.

    Raises:
        UsageError, EnvironmentLacking, CacheMismatch: as `backbones.reopen.open_trunk`.
    """
    from avpipe.stages.backbones.reopen import open_trunk

    if spec.adapted:
        return {modality: open_trunk(cache.specs[modality], device=device) for modality in spec.adapted}
    if config.stage != "segment" or config.inject != "rerun" or not spec.injected:
        return {}

    first = next(iter(spec.injected)) if spec.resume else ""
    last = bare(next(reversed(spec.shapes["visual"])))
    return {"visual": open_trunk(cache.specs["visual"], first=first, last=last, device=device)}


def build_model(spec: ModelSpec, config: TrainConfig, trunks: dict[str, Trunk] | None = None) -> nn.Module:
    """The model of a run, with fresh weights from torch's random numbers.

    Args:
        spec: what it is built for.
        config: its settings.
        trunks: from `open_trunks`; never part of its parameters and of checkpoints.
    """
    if spec.adapted:
        task_model = build_model(replace(spec, adapted={}), replace(config, method="linear"))
        return LavishModel(spec, config, task_model, trunks)
    if config.stage == "segment" and config.inject != "none" and spec.injected:
        return MtiModel(spec, config, (trunks or {}).get("visual"))
    models = {"events": EventModel, "parsing": ParsingModel, "segmentation": MaskModel, "semantic": MaskModel}
    return models[spec.task](spec, config)
