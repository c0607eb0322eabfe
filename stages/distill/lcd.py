"""Layer-Centric Distillation (LCD) of Mettle, arXiv 2506.23271.

Published (abstract and introduction): for every layer, modality and segment, learnable meta-tokens are the queries of
an attention over the frozen tokens of that layer, all layers in parallel beside the backbone; two mechanisms run side
by side, one to keep what was pretrained and one to adapt to the task; for classification the meta-tokens are averaged
over the layers.

Not published, so our reading: K and the start values, both formulas (`lcd_layer`), the gate, the map to a common
width, what layers may share, and leaving layers out in training.

Legend: S segments (B * T), N tokens, C channels, K meta-tokens, L layers, d common width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.attention import StoredTokens
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled, Looks, Shapes, register
from avpipe.stages.distill.common import EachModality, ToCommonWidth
from avpipe.stages.distill.lcd_layer import LayerDistiller


class ModalityDistiller(nn.Module):
    """LCD for every tap of one modality.

    Each tap's meta-tokens go through LayerNorm and Linear to width d; the vector of a segment is their mean over the
    meta-tokens and taps (published: the mean over layers; our reading: the map that makes unequal widths meet). Every
    tap has meta-tokens of its own. With `share=stage` taps of one width, which are the blocks of one stage, share all
    else. With `layer_dropout` a training step leaves each tap out of the mean at this rate, but never all of them; the
    mean is over those that stay, so its expectation is the mean over all.

    Args:
        taps: `(N, C)` of each tap, in order of depth.
        config: the settings of LCD are used.
    """

    def __init__(self, taps: Mapping[str, tuple[int, int]], config: TrainConfig) -> None:
        super().__init__()
        self.taps, self.layer_dropout = tuple(taps), config.layer_dropout
        shared = config.share == "stage"
        widths = list(dict.fromkeys(c for _, c in taps.values())) if shared else [c for _, c in taps.values()]
        self.places = [widths.index(c) if shared else place for place, (_, c) in enumerate(taps.values())]
        self.meta, self.distillers = nn.ParameterList(), nn.ModuleList()
        for place, (_, c) in zip(self.places, taps.values(), strict=True):
            self.meta.append(nn.Parameter(torch.randn(config.meta_tokens, c) * 0.02))
            if place == len(self.distillers):
                self.distillers.append(LayerDistiller(c, config))
        self.maps = nn.ModuleList(ToCommonWidth(c, config.width) for c in widths)

    def forward(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Distilled:
        """Distils `tokens[tap]` `[B, T, N, C]`."""
        staying = self._staying()
        last = len(self.taps) - 1
        mapped = {i: self._tap(i, tokens, statistics) for i in sorted({*staying, last})}  # heads may ask for the last
        return Distilled(torch.stack([mapped[i] for i in staying]).mean(dim=(0, 3)), mapped[last])

    def looks(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Looks:
        """Where the mechanisms of every tap look in `tokens[tap]` `[B, T, N, C]`."""
        weights, gates = {}, {}
        for i, tap in enumerate(self.taps):
            distil = self._distiller(i)
            if distil.gate is not None and len(distil.mechanisms) > 1:
                gates[tap] = float(distil.gate.detach().abs().mean())
            found = distil.looks(self.meta[i], _stored(tap, tokens, statistics))
            weights[tap] = found.view(*tokens[tap].shape[:2], *found.shape[1:])
        return Looks(self._distiller(0).mechanisms, weights, gates)

    def _tap(self, i: int, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Tensor:
        """Meta-tokens of the i-th tap at the common width, `[B, T, K, d]`."""
        tap = self.taps[i]
        meta = self._distiller(i)(self.meta[i], _stored(tap, tokens, statistics))  # S K C
        mapped: Tensor = self.maps[self.places[i]](meta)
        return mapped.view(*tokens[tap].shape[:2], *mapped.shape[1:])

    def _distiller(self, i: int) -> LayerDistiller:
        distil = self.distillers[self.places[i]]
        assert isinstance(distil, LayerDistiller)
        return distil

    def _staying(self) -> list[int]:
        """Taps that the mean of this step is over. Without dropout no random number is drawn."""
        count = len(self.taps)
        if not self.training or not self.layer_dropout:
            return list(range(count))
        chance = torch.rand(count)
        return [i for i in range(count) if chance[i] >= self.layer_dropout] or [int(chance.argmax())]


def _stored(tap: str, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> StoredTokens:
    rstd = statistics[tap][..., 1].flatten(0, 1) if tap in statistics else None
    return StoredTokens(tokens[tap].flatten(0, 1), rstd)


@register("mettle")
def build(shapes: Shapes, config: TrainConfig) -> nn.Module:
    """LCD for these taps."""
    return EachModality({m: ModalityDistiller(taps, config) for m, taps in shapes.items()})
