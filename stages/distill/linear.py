"""The control: mean over the tokens of each tap, no distiller.

Same heads after it, so the difference to another method is what that method's distiller gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled, Shapes, register
from avpipe.stages.distill.common import EachModality, ToCommonWidth


class PooledTokens(nn.Module):
    """Mean over tokens, LayerNorm and Linear to d for each tap of one modality, mean over taps.

    Args:
        taps: `(N, C)` of each tap, in order of depth.
        width: d.
    """

    def __init__(self, taps: Mapping[str, tuple[int, int]], width: int) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.maps = nn.ModuleList(ToCommonWidth(c, width) for _, c in taps.values())

    def forward(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Distilled:
        """Pools `tokens[tap]` `[B, T, N, C]`; `top` holds one token, the mapped mean of the last tap."""
        pairs = zip(self.taps, self.maps, strict=True)
        mapped = [to_common(tokens[tap].float().mean(dim=2)) for tap, to_common in pairs]  # each B T d
        return Distilled(torch.stack(mapped).mean(dim=0), mapped[-1][:, :, None])


@register("linear")
def build(shapes: Shapes, config: TrainConfig) -> nn.Module:
    """The control's distiller."""
    return EachModality({m: PooledTokens(taps, config.width) for m, taps in shapes.items()})
