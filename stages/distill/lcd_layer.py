"""What LCD does at one layer, our reading of its two mechanisms.

Legend: S segments, N tokens, C channels, K meta-tokens, H heads, r rank.

With M the meta-tokens and X the frozen tokens of one segment, LN with gains of its own each time:

    P = softmax(LN(M) LN(X)^T / sqrt(C)) X                       knowledge preservation: no value projection
    T = softmax_h(LN(M) W_q (LN(X) W_k)^T / sqrt(r/H)) LN(X) W_v W_o    task adaptation, `attention`, H heads
    T = W_up GELU(W_down LN(P))                                  task adaptation, `bottleneck`
    m = P + gate * T

P is a convex mix of frozen tokens. The gate starts at 0, so training starts from P.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages import attention
from avpipe.stages.attention import StoredTokens
from avpipe.stages.config import TrainConfig

KEPT = ("kept", "kept: a plain mix of frozen tokens")
ADAPTED = ("adapted", "adapted: low-rank attention that training shaped, added with a gate")
ADAPTED_ALONE = ("adapted", "adapted: low-rank attention that training shaped")


class LowRankAttention(nn.Module):
    """T of the kind `attention`, as one more attention over the tokens.

    Args:
        channels: C.
        heads: H.
        rank: r.

    Attributes:
        form: how the attention is computed; the result is the same.
    """

    def __init__(self, channels: int, heads: int, rank: int) -> None:
        super().__init__()
        self.heads = heads
        self.form: attention.Form = "auto"
        self.token_bias = nn.Parameter(torch.zeros(channels))
        self.to_query, self.to_key, self.to_value = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(channels, rank))) for _ in range(3)
        )
        self.back = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, channels)))

    def forward(
        self, queries: Tensor, gain: Tensor, x: StoredTokens, keep: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """P and T, `[S, K, C]` each, from one pass over the tokens.

        Args:
            queries: LN(M), `[K, C]`.
            gain: of LN(X), `[C]`.
            x: frozen tokens.
            keep: P's queries; None where there is no P.
        """
        kept, adapted = attention.attend(
            queries @ self.to_query,
            x,
            self.to_key,
            self.to_value,
            gain,
            self.token_bias,
            heads=self.heads,
            keep=keep,
            form=self.form,
        )
        return None if keep is None else kept, adapted @ self.back

    def folded(self, queries: Tensor, gain: Tensor) -> Tensor:
        """T's queries with the keys folded in, `[K * H, C]`."""
        rows = attention.fold_queries(queries @ self.to_query, self.to_key, gain, self.heads)
        return rows.reshape(-1, len(gain))


class Bottleneck(nn.Module):
    """T of the kind `bottleneck`.

    Args:
        channels: C.
        rank: r.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.down = nn.Linear(channels, rank)
        self.up = nn.Linear(rank, channels)

    def forward(self, kept: Tensor) -> Tensor:
        """T `[S, K, C]` of P `[S, K, C]`."""
        adapted: Tensor = self.up(functional.gelu(self.down(self.norm(kept))))
        return adapted


class LayerDistiller(nn.Module):
    """From the tokens of a tap to its meta-tokens `m`.

    The meta-tokens' start values are given with every call, so taps can share this module and keep meta-tokens of
    their own.

    Args:
        channels: C.
        config: `heads`, `rank`, `branches`, `adapt` and `gate` are used.
    """

    def __init__(self, channels: int, config: TrainConfig) -> None:
        super().__init__()
        self.adds = config.branches == "both"
        self.query_norm = nn.LayerNorm(channels)
        self.token_gain = nn.Parameter(torch.ones(channels))
        self.adapt: nn.Module | None = None
        if config.branches != "keep":
            bottleneck = config.adapt == "bottleneck"
            self.adapt = (
                Bottleneck(channels, config.rank)
                if bottleneck
                else LowRankAttention(channels, config.heads, config.rank)
            )
        self.gate = nn.Parameter(torch.zeros(channels if config.gate == "channel" else 1)) if self.adds else None

    @property
    def mechanisms(self) -> tuple[tuple[str, str], ...]:
        """Key and label of every attention that is there."""
        if not isinstance(self.adapt, LowRankAttention):
            return (KEPT,)
        return (KEPT, ADAPTED) if self.adds else (ADAPTED_ALONE,)

    def forward(self, meta: Tensor, x: StoredTokens) -> Tensor:
        """`m` `[S, K, C]`, for start values `meta` `[K, C]` and frozen tokens `x` `[S, N, C]`."""
        queries = self.query_norm(meta)
        if isinstance(self.adapt, LowRankAttention):
            kept, adapted = self.adapt(queries, self.token_gain, x, self._keep(queries) if self.adds else None)
        else:
            kept = attention.mix(self._keep(queries), x)
            adapted = self.adapt(kept) if self.adapt is not None else None
        if self.gate is not None:
            return torch.addcmul(kept, self.gate.to(kept.dtype), adapted.to(kept.dtype))
        only: Tensor = kept if adapted is None else adapted
        return only

    def looks(self, meta: Tensor, x: StoredTokens) -> Tensor:
        """Where each of the M mechanisms looks, `[S, M, N]`: mean over meta-tokens and heads."""
        queries = self.query_norm(meta)
        rows = [self._keep(queries)] if KEPT in self.mechanisms else []
        if isinstance(self.adapt, LowRankAttention):
            rows.append(self.adapt.folded(queries, self.token_gain))
        weights = attention.token_weights(attention.centered(torch.cat(rows), -1), x)
        return torch.stack([part.mean(dim=1) for part in torch.split(weights, [len(r) for r in rows], dim=1)], dim=1)

    def _keep(self, queries: Tensor) -> Tensor:
        """P's queries `[K, C]`, scaled and with LN(X)'s gain."""
        keep: Tensor = queries * self.token_gain * queries.shape[-1] ** -0.5
        return keep
