"""What is heard, and what was distilled, brought into the positions of a frame."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.distill import Distilled


class GuideFusion(nn.Module):
    """Brings meta-tokens into the positions of a frame; the identity (up to a LayerNorm) at the start.

    `z = LN(x + W_z(f g(m)))` with `f = theta(x) phi(m)^T / (M sqrt(d/2))`, d/2 the width of theta, phi and g: a product
    without softmax as in TPAVI (published with AVSBench; it has no root, which is ours), where every position looks at
    all positions of all frames, the sound added to each. Ours looks at this segment's meta-tokens m of both modalities
    in their place: M of them, a few, so it costs next to nothing. Then each channel is scaled by a gate from the
    vectors of the modalities (ours), so that a silent second can switch the whole frame off.

    Args:
        modalities: names of the modalities, in the order in which they are joined.
        width: d.
    """

    def __init__(self, modalities: tuple[str, ...], width: int) -> None:
        super().__init__()
        inner = width // 2
        self.modalities, self.scale = modalities, inner**-0.5
        self.kind = nn.Parameter(torch.randn(len(modalities), width) * 0.02)
        self.guide_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.theta, self.phi, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.back, self.gate = nn.Linear(inner, width), nn.Linear(width * len(modalities), width)
        for layer in (self.back, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, distilled: Mapping[str, Distilled]) -> Tensor:
        """Fuses a map `[S, d, h, w]` with `top` `[B, T, K, d]` and `vector` `[B, T, d]` of every modality."""
        grid, x = x.shape[-2:], x.flatten(2).transpose(1, 2)  # S P d
        tops = [distilled[m].top.flatten(0, 1) + kind for m, kind in zip(self.modalities, self.kind, strict=True)]
        guides = self.guide_norm(torch.cat(tops, dim=1))  # S M d
        alike = self.theta(x) @ self.phi(guides).transpose(1, 2) * (self.scale / guides.shape[1])  # S P M
        x = self.norm(x + self.back(alike @ self.value(guides)))
        vectors = torch.cat([distilled[m].vector for m in self.modalities], dim=-1).flatten(0, 1)
        gated: Tensor = x * (2 * torch.sigmoid(self.gate(vectors)))[:, None]
        return gated.transpose(1, 2).reshape(len(gated), -1, *grid)
