"""Meta-Token Injection (MTI) of Mettle, arXiv 2506.23271, before one block of a frozen backbone.

Published: for segmentation, meta-tokens of the top layer, of sight and sound, guide the adaptation of earlier layers.
Not published, so our reading: the formula and the blocks. With x the output of the block before, LN without gain and
bias each time where a map follows, G the meta-tokens of both modalities in the same segment, each with a learned
vector that says of which modality it is:

    x' = x + 10 gate * softmax_h((LN(x) W_q + b_q) (LN(G) W_k)^T / sqrt(r/H)) LN(G) W_v W_o,    gate 0 at the start

AdamW moves a parameter by its rate at most in a step, and the other maps learn nothing while the gate is shut: without
the factor gates were at 0.005 after some hundred steps, which changes x by a few thousandths.

Prefix tokens (class token, registers) take part: they are what all patches of the next blocks read, and leaving them
out would copy all tokens for nothing.

Legend: S segments, N tokens, C channels, K meta-tokens of a modality, M of all modalities, d common width, H heads,
r rank.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.config import TrainConfig

OPENING = 10.0
"""How many times faster than a parameter of its own the gate opens."""


class Injection(nn.Module):
    """Meta-tokens into the tokens before one block; any distiller's, for it sees no more than their common width.

    Only queries are made of the tokens: its products take about `r / 6C` of a block's, 1.4 % for r = 64 and C = 768.

    Args:
        channels: C.
        modalities: of the meta-tokens.
        config: `width` (d), `rank`, `heads` and `gate` are used.
    """

    def __init__(self, channels: int, modalities: tuple[str, ...], config: TrainConfig) -> None:
        super().__init__()
        self.modalities, self.heads = modalities, config.heads
        self.kind = nn.Parameter(torch.randn(len(modalities), config.width) * 0.02)
        self.guide_norm = nn.LayerNorm(config.width)
        self.to_query = nn.Linear(channels, config.rank)  # its weight and bias stand for LN(x)'s gain and bias too
        self.to_key, self.to_value = (nn.Linear(config.width, config.rank, bias=False) for _ in range(2))
        self.back = nn.Parameter(nn.init.xavier_uniform_(torch.empty(config.rank, channels)))
        self.gate = nn.Parameter(torch.zeros(channels if config.gate == "channel" else 1))

    def forward(self, x: Tensor, meta: Mapping[str, Tensor]) -> Tensor:
        """x'.

        Args:
            x: tokens `[S, N, C]` in any float type, as they are stored or as a block gives them.
            meta: meta-tokens `[S, K, d]` by modality; K may differ.

        Returns:
            `[S, N, C]` in the type of the weights.
        """
        x = x.to(self.gate.dtype)
        guides = self.guide_norm(self._guides(meta))
        query = self._by_head(self.to_query(functional.layer_norm(x, x.shape[-1:])))  # S H N r/H
        key, value = self._by_head(self.to_key(guides)), self._by_head(self.to_value(guides))  # S H M r/H
        alike = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(dim=-1)  # S H N M
        mixed = (alike @ value).transpose(1, 2).flatten(2)  # S N r
        # The gate goes to the small side: gating the product would keep another [S, N, C] for the backward pass.
        injected: Tensor = x + mixed @ (self.back * (OPENING * self.gate))
        return injected

    def _guides(self, meta: Mapping[str, Tensor]) -> Tensor:
        """All meta-tokens, `[S, M, d]`."""
        kinds = zip(self.modalities, self.kind, strict=True)
        return torch.cat([meta[modality] + kind for modality, kind in kinds], dim=1)

    def _by_head(self, x: Tensor) -> Tensor:
        """`[S, n, r]` as `[S, H, n, r/H]`."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
