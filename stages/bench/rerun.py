"""Training as without a cache: the frozen backbones run at every step, on stored frames and samples.

Legend: B batch, T segments, N tokens, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk
    from avpipe.stages.features import FeatureBatch
    from avpipe.stages.model import ModelSpec


class Rerun(nn.Module):
    """A model on cached tokens, fed by the backbones themselves, without gradients and in float32.

    Args:
        model: takes a `FeatureBatch` of tokens.
        spec: names the taps that it is fed.
        trunks: both backbones from the first block on, by modality; kept out of the module's parameters.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, trunks: dict[str, Trunk]) -> None:
        super().__init__()
        self.model = model
        self._taps = {modality: tuple(taps) for modality, taps in spec.shapes.items()}
        self._trunks = tuple(trunks.items())

    def forward(self, batch: FeatureBatch) -> Any:
        """What the model gives for the batch's frames and samples."""
        tokens = {modality: self._run(modality, trunk, batch) for modality, trunk in self._trunks}
        return self.model(replace(batch, tokens=tokens, media={}))

    @torch.no_grad()
    def _run(self, modality: str, trunk: Trunk, batch: FeatureBatch) -> dict[str, Tensor]:
        """Tokens `[B, T, N, C]` by tap."""
        media, found = batch.media[modality], {}
        x = trunk.embed(media.flatten(0, 1))
        for name in trunk.names:
            x = trunk.block(name, x)
            found[name] = x.view(*media.shape[:2], *x.shape[1:])
        return {tap: found[tap] for tap in self._taps[modality]}
