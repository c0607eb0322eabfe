"""The model of `--method lavish`: both backbones with adapters inside, then what the control `linear` has.

    stored frames, samples -> two frozen backbones with adapters -> last tokens, pooled -> head
                                                    |
                                                    +-> visual stage ends -> mask decoder

Legend: B batch, T segments, S segments that are present, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from avpipe.stages.config import TrainConfig
from avpipe.stages.lavish.backbones import AdaptedBackbones
from avpipe.stages.model.padding import present_only, spread
from avpipe.stages.model.spec import ModelSpec

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk
    from avpipe.stages.features import FeatureBatch


class LavishModel(nn.Module):
    """A model on cached tokens that is given those of adapted backbones instead.

    Args:
        spec: `adapted` says which blocks there are, `shapes` which outputs are wanted.
        config: see `AdaptedBackbones`.
        model: what the tokens of `shapes` are for: the task's model with the control `linear`.
        trunks: both backbones, by modality; no part of this module's parameters. Needed for a forward pass.
    """

    def __init__(
        self, spec: ModelSpec, config: TrainConfig, model: nn.Module, trunks: Mapping[str, Trunk] | None = None
    ) -> None:
        super().__init__()
        self.wanted = {modality: tuple(taps) for modality, taps in spec.shapes.items()}
        self.backbones = AdaptedBackbones(spec.adapted, config, trunks)
        self.model = model

    def forward(self, batch: FeatureBatch) -> Any:
        """What the task's model gives. Padded segments are not run: their tokens are zeros."""
        media = {modality: present_only(each, batch.present) for modality, each in batch.media.items()}
        tokens = {
            modality: {tap: spread(x, batch.present) for tap, x in taps.items()}
            for modality, taps in self.backbones(media, self.wanted).items()
        }
        return self.model(replace(batch, tokens=tokens, statistics={}))
