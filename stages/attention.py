"""A few learned queries over many frozen tokens, without projecting the tokens.

Legend: S segments (batch and time together), N tokens, C channels, K meta-tokens, H heads, R width of all heads.

Tokens x never need a gradient, and there are few queries, so products are regrouped ("our reading" of how to make it
cheap; the result is that of plain attention):

- keys: `q (x W_k)^T = (q W_k^T) x^T`, so W_k is folded into the queries and no keys exist;
- values: `a (x W_v) = (a x) W_v`, so the tokens are summed first and W_v is applied to K*H sums;
- LayerNorm: `q LN(x)^T = rstd * (q - mean_C(q)) x^T`, because taking the mean off x or off q is the same; likewise the
  mean over channels is taken off the weighted sum. Only 1/deviation of every token is needed, LN(x) never exists.

That costs about K*H*C for each token, where projecting to width R costs R*C: `meta_attention` takes what costs less.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Form = Literal["auto", "absorbed", "projected"]
NORM_EPS = 1e-5
STATISTICS_ELEMENTS = 1 << 22
"""Elements of the tokens that `token_rstd` normalises at a time."""


def token_rstd(x: Tensor, eps: float = NORM_EPS) -> Tensor:
    """One over the deviation of every token, as LayerNorm uses it. Not differentiable: the tokens are frozen.

    Args:
        x: tokens `[S, N, C]`, float32.
        eps: LayerNorm's epsilon.

    Returns:
        `[S, N]`.
    """
    # The fused kernel is several times faster than torch.var; it also writes LN(x), so it runs on one part at a time.
    at_once = max(1, STATISTICS_ELEMENTS // (x.shape[1] * x.shape[2]))
    with torch.no_grad():
        parts = [torch.native_layer_norm(part, x.shape[2:], None, None, eps)[2] for part in torch.split(x, at_once)]
    return torch.cat(parts).squeeze(-1)


def centered(weight: Tensor, dim: int) -> Tensor:
    """`weight` with its mean over `dim` (the channels) taken off: the mean of LayerNorm, folded."""
    return weight - weight.mean(dim=dim, keepdim=True)


def token_weights(queries: Tensor, x: Tensor, rstd: Tensor) -> Tensor:
    """Attention weights of folded queries on LayerNorm(x) without affine.

    Args:
        queries: `[Q, C]`, scaled, with W_k and LayerNorm's gain folded in; the same for every segment.
        x: tokens `[S, N, C]`.
        rstd: `[S, N]` from `token_rstd`.

    Returns:
        `[S, Q, N]`, rows sum to one.
    """
    scores = functional.linear(x, centered(queries, -1)) * rstd[..., None]  # S N Q
    weights: Tensor = scores.transpose(1, 2).softmax(dim=-1)  # S Q N
    return weights


def normed_sum(weights: Tensor, x: Tensor, rstd: Tensor) -> Tensor:
    """Weighted sum of LayerNorm(x) without affine, `[S, Q, C]`, for `weights` `[S, Q, N]`."""
    return centered(torch.bmm(weights * rstd[:, None, :], x), -1)


def fold_queries(q: Tensor, w_k: Tensor, heads: int) -> Tensor:
    """Queries with the key projection folded in, scaled by the root of a head's width.

    Args:
        q: `[K, R]`.
        w_k: `[C, R]`.
        heads: H; divides R.

    Returns:
        `[H * K, C]`, head after head.
    """
    k, r = q.shape
    split = q.view(k, heads, r // heads).transpose(0, 1)  # H K R/H
    folded = split @ w_k.view(-1, heads, r // heads).permute(1, 2, 0)  # H K C
    return (folded / math.sqrt(r // heads)).reshape(heads * k, -1)


def unfold_values(sums: Tensor, w_v: Tensor, heads: int) -> Tensor:
    """Applies the value projection after the weighted sum.

    Args:
        sums: `[S, H * K, C]`, head after head.
        w_v: `[C, R]`.
        heads: H.

    Returns:
        `[S, K, R]`.
    """
    s, hk, c = sums.shape
    by_head = sums.view(s, heads, hk // heads, c)
    out = torch.einsum("shkc,chr->skhr", by_head, w_v.view(c, heads, -1))
    return out.reshape(s, hk // heads, -1)


def absorbing_pays(meta_tokens: int, heads: int, width: int) -> bool:
    """Whether folding costs less than projecting: K*H products for each token and channel against R."""
    return meta_tokens * heads < width


def meta_attention(
    q: Tensor, x: Tensor, w_k: Tensor, w_v: Tensor, *, heads: int, rstd: Tensor | None = None, form: Form = "auto"
) -> Tensor:
    """Multi-head attention of K queries over LayerNorm(x) without affine, `softmax(q k^T / sqrt(R/H)) v`.

    LayerNorm's gain belongs into `w_k` and `w_v` (`gain[:, None] * w`); its bias adds `bias @ w_v` to the result and
    cancels in the scores, as any bias on the keys does.

    Args:
        q: queries `[K, R]`, float32, the same for every segment.
        x: tokens `[S, N, C]`, float32.
        w_k: key projection `[C, R]`.
        w_v: value projection `[C, R]`.
        heads: H; divides R.
        rstd: `[S, N]` where it is known, else it is computed.
        form: `absorbed`, `projected`, or `auto` for what costs less.

    Returns:
        `[S, K, R]`.
    """
    if rstd is None:
        rstd = token_rstd(x)
    if form == "absorbed" or (form == "auto" and absorbing_pays(len(q), heads, q.shape[1])):
        weights = token_weights(fold_queries(q, w_k, heads), x, rstd)
        return unfold_values(normed_sum(weights, x, rstd), w_v, heads)
    return _projected(q, x, w_k, w_v, heads, rstd)


def _projected(q: Tensor, x: Tensor, w_k: Tensor, w_v: Tensor, heads: int, rstd: Tensor) -> Tensor:
    """The form with keys and values, both from one product; LayerNorm stays folded."""
    s, n, _ = x.shape
    k, r = q.shape
    both = (x @ centered(torch.cat([w_k, w_v], dim=1), 0)) * rstd[..., None]  # S N 2R
    key, value = both.view(s, n, 2, heads, r // heads).permute(2, 0, 3, 1, 4)  # S H N R/H
    query = q.view(k, heads, r // heads).transpose(0, 1)
    weights = (query @ key.transpose(-1, -2) / math.sqrt(r // heads)).softmax(dim=-1)  # S H K N
    out: Tensor = (weights @ value).transpose(1, 2).reshape(s, k, r)
    return out
