"""The model of a run: what it is built for (`spec`), and the modules on cached tokens (`cached`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from avpipe.stages.config import TrainConfig
from avpipe.stages.model.cached import EventModel, MaskModel, ParsingModel
from avpipe.stages.model.spec import MASK_TASKS, ModelSpec, Reading, describe, reading, shapes_of

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache
    from avpipe.stages.backbones.trunk import Trunk

__all__ = ["MASK_TASKS", "ModelSpec", "Reading", "build_model", "describe", "open_trunks", "reading", "shapes_of"]


def open_trunks(cache: Cache, spec: ModelSpec, config: TrainConfig, device: str) -> dict[str, Trunk]:
    """The frozen backbones that a model runs itself, by modality; empty where it works on cached tokens alone.

    Raises:
        UsageError, EnvironmentLacking, CacheMismatch: as `backbones.reopen.open_trunk`.
    """
    return {}


def build_model(spec: ModelSpec, config: TrainConfig, trunks: dict[str, Trunk] | None = None) -> nn.Module:
    """The model of a run, with fresh weights from torch's random numbers.

    Args:
        spec: what it is built for.
        config: its settings.
        trunks: from `open_trunks`; never part of its parameters and of checkpoints.
    """
    models = {"events": EventModel, "parsing": ParsingModel, "segmentation": MaskModel, "semantic": MaskModel}
    return models[spec.task](spec, config)
