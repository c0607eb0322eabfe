"""Layer-Centric Distillation (LCD) of Mettle, arXiv 2506.23271.

Published (abstract and introduction): for every layer, modality and segment, learnable meta-tokens are the queries of
an attention over the frozen tokens of that layer, all layers in parallel beside the backbone; two mechanisms run side
by side, one to keep what was pretrained and one to adapt to the task; for classification the meta-tokens are averaged
over the layers.

Not published, so our reading: K and the start values, both formulas, the gate, the map to a common width.

Legend: S segments (B * T), N tokens, C channels, K meta-tokens, H heads, r rank, d common width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages import attention
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled, Looks, Shapes, register
from avpipe.stages.distill.common import EachModality, ToCommonWidth

MECHANISMS = (
    ("kept", "kept: a plain mix of frozen tokens"),
    ("adapted", "adapted: low-rank attention that training shaped, added with a gate"),
)


class TapDistiller(nn.Module):
    """Meta-tokens of one tap: `m = P + gate * T`, our reading of LCD's two mechanisms.

    P keeps what is there: `softmax(LN(M) LN(X)^T / sqrt(C)) X`, without a value projection, so each meta-token is a
    convex mix of frozen tokens. T adapts: cross-attention of low rank r from the same queries, with a way back to C.
    The gate has a value per channel and starts at 0, so training starts from P.

    Args:
        channels: C.
        meta_tokens: K.
        heads: H of the second mechanism; P has one.
        rank: r.
    """

    def __init__(self, channels: int, meta_tokens: int, heads: int, rank: int) -> None:
        super().__init__()
        self.heads = heads
        self.meta = nn.Parameter(torch.randn(meta_tokens, channels) * 0.02)
        self.query_norm = nn.LayerNorm(channels)
        self.token_gain = nn.Parameter(torch.ones(channels))
        self.token_bias = nn.Parameter(torch.zeros(channels))
        self.to_query, self.to_key, self.to_value = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, rank))) for _ in range(3)
        )
        self.back = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, channels)))
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, rstd: Tensor | None = None) -> Tensor:
        """Distils tokens `[S, N, C]` (float32) to meta-tokens `[S, K, C]`; `rstd` `[S, N]` where it is known."""
        if rstd is None:
            rstd = attention.token_rstd(x)
        queries = self.query_norm(self.meta)  # K C
        kept, adapted = self._both(queries, x, rstd)
        adapted = (adapted + self.token_bias @ self.to_value) @ self.back
        return kept + self.gate * adapted

    def looks(self, x: Tensor) -> Tensor:
        """Where P and T look in tokens `[S, N, C]` (float32): `[S, 2, N]`, mean over meta-tokens and over T's heads."""
        queries = self.query_norm(self.meta)
        keep, narrow, w_k = self._queries(queries)
        folded = attention.fold_queries(narrow, w_k, self.heads)
        weights = attention.token_weights(torch.cat([keep, folded]), x, attention.token_rstd(x))  # S (K + HK) N
        parts = torch.split(weights, [len(keep), len(folded)], dim=1)
        return torch.stack([part.mean(dim=1) for part in parts], dim=1)

    def _queries(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P's queries `[K, C]` scaled and with LN(X)'s gain, T's narrow ones `[K, r]`, and T's W_k with the gain."""
        keep = queries * self.token_gain * queries.shape[-1] ** -0.5
        return keep, queries @ self.to_query, self.token_gain[:, None] * self.to_key

    def _both(self, queries: Tensor, x: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
        """P `[S, K, C]` and the heads' result `[S, K, r]`; both in one pass over the tokens where folding pays."""
        keep, narrow, w_k = self._queries(queries)
        w_v = self.token_gain[:, None] * self.to_value
        k, rank = narrow.shape
        if not attention.absorbing_pays(k, self.heads, rank):
            kept = torch.bmm(attention.token_weights(keep, x, rstd), x)
            return kept, attention.meta_attention(narrow, x, w_k, w_v, heads=self.heads, rstd=rstd, form="projected")
        folded = attention.fold_queries(narrow, w_k, self.heads)
        weights = attention.token_weights(torch.cat([keep, folded]), x, rstd)  # S (K + HK) N
        keeping, adapting = torch.split(weights, [k, len(folded)], dim=1)
        sums = attention.normed_sum(adapting, x, rstd)
        return torch.bmm(keeping, x), attention.unfold_values(sums, w_v, self.heads)


class ModalityDistiller(nn.Module):
    """LCD for every tap of one modality; nothing is shared between taps.

    Each tap's meta-tokens go through LayerNorm and Linear to width d; the vector of a segment is their mean over the
    meta-tokens and taps (published: the mean over layers; our reading: the map that makes unequal widths meet).

    Args:
        taps: `(N, C)` of each tap, in order of depth.
        config: `meta_tokens`, `heads`, `rank`, `width` are used.
    """

    def __init__(self, taps: Mapping[str, tuple[int, int]], config: TrainConfig) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.distillers = nn.ModuleList(
            TapDistiller(c, config.meta_tokens, config.heads, config.rank) for _, c in taps.values()
        )
        self.maps = nn.ModuleList(ToCommonWidth(c, config.width) for _, c in taps.values())

    def forward(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Distilled:
        """Distils `tokens[tap]` `[B, T, N, C]`."""
        mapped = []
        for tap, distil, to_common in zip(self.taps, self.distillers, self.maps, strict=True):
            x = tokens[tap]
            known = statistics[tap][..., 1].flatten(0, 1) if tap in statistics else None
            meta = distil(x.flatten(0, 1).float(), known)
            mapped.append(to_common(meta).view(*x.shape[:2], *meta.shape[1:2], -1))  # B T K d
        return Distilled(torch.stack(mapped).mean(dim=(0, 3)), mapped[-1])

    def looks(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Looks:
        """Where both mechanisms of every tap look in `tokens[tap]` `[B, T, N, C]`."""
        weights, gates = {}, {}
        for tap, distil in zip(self.taps, self.distillers, strict=True):
            x = tokens[tap]
            assert isinstance(distil, TapDistiller)
            gates[tap] = float(distil.gate.detach().abs().mean())
            weights[tap] = distil.looks(x.flatten(0, 1).float()).view(*x.shape[:2], len(MECHANISMS), -1)
        return Looks(MECHANISMS, weights, gates)


@register("mettle")
def build(shapes: Shapes, config: TrainConfig) -> nn.Module:
    """LCD for these taps."""
    return EachModality({m: ModalityDistiller(taps, config) for m, taps in shapes.items()})
