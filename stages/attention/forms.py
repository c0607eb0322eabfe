"""Attention of a few queries over many tokens, in the two forms that give the same result.

Legend: S segments, N tokens, C channels, K meta-tokens, H heads, R width of all heads.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from avpipe.stages.attention.projections import fold_keys, project_sums
from avpipe.stages.attention.stored import StoredTokens
from avpipe.stages.attention.token_pass import ALL, NONE, balanced, token_pass

Form = Literal["auto", "absorbed", "projected"]
SUM_TOKENS = 24
"""A segment's sums of the absorbed form cost as much as this many tokens."""
KEY_CHANNELS = 128
"""Keys and values of a token cost as much as this many channels, besides their product."""
PROJECTED_WORTH = 0.9
"""Cost of a pair of a key and a value, in folded queries."""


def centered(weight: Tensor, dim: int) -> Tensor:
    """`weight` with its mean over `dim` (the channels) taken off: the mean of LayerNorm, folded."""
    return weight - weight.mean(dim=dim, keepdim=True)


def cheaper_form(meta_tokens: int, heads: int, width: int, tokens: tuple[int, int]) -> Form:
    """The form that costs less, by shape alone.

    What meets each token is K * H folded queries, or R keys and as many values. The folded ones are fewer and longer
    sums, worth their rows where a segment has many tokens; keys and values cost work of their own besides, which counts
    where the channels are few. The three numbers are fitted to measured times (`benchmarks/attention.py --grid`, one
    thread, six shapes of tokens). Measured again with stored statistics, the form that is taken costs at most 1.04
    times the other on vit_base and on swinv2_large's stages 1 and 3, and at most 1.08 times on stage 4 but for one case
    (r 128, K 16, H 4) of 1.11. On a busy machine single cases reach 1.14.

    Args:
        meta_tokens: K.
        heads: H.
        width: R.
        tokens: N and C.
    """
    n, c = tokens
    absorbed = meta_tokens * heads * c * (n + SUM_TOKENS)
    projected = PROJECTED_WORTH * width * n * (c + KEY_CHANNELS)
    return "absorbed" if absorbed <= projected else "projected"


def mix(keep: Tensor, tokens: StoredTokens) -> Tensor:
    """Convex mixes of the tokens as they are, `softmax(keep LN(x)^T) x`: `[S, K, C]`.

    Args:
        keep: queries `[K, C]`, scaled, with LayerNorm's gain folded in.
        tokens: the frozen tokens.
    """
    sums, _ = token_pass(centered(keep, -1), keep.new_empty(0, keep.shape[1]), tokens, ALL)
    return sums


def attend(
    q: Tensor,
    tokens: StoredTokens,
    w_k: Tensor,
    w_v: Tensor,
    gain: Tensor,
    bias: Tensor,
    *,
    heads: int,
    keep: Tensor | None = None,
    form: Form = "auto",
) -> tuple[Tensor, Tensor]:
    """Multi-head attention of K queries over LayerNorm(x), `softmax(q k^T / sqrt(R/H)) v`.

    LayerNorm's bias adds `bias @ w_v` to the result, and cancels in the scores as any bias on the keys does.

    Args:
        q: queries `[K, R]`, the same for every segment.
        tokens: the frozen tokens.
        w_k: key projection `[C, R]`.
        w_v: value projection `[C, R]`.
        gain: LayerNorm's gain `[C]`.
        bias: LayerNorm's bias `[C]`.
        heads: H; divides R.
        keep: queries `[K, C]` of a `mix` that is made in the same pass over the tokens.
        form: `absorbed`, `projected`, or `auto` for what costs less.

    Returns:
        the mix `[S, K, C]` (`[S, 0, C]` without `keep`) and the attention's result `[S, K, R]`.
    """
    if form == "auto":
        form = cheaper_form(len(q), heads, q.shape[1], (tokens.values.shape[1], len(w_k)))
    return (_absorbed if form == "absorbed" else _projected)(q, tokens, w_k, w_v, gain, bias, heads, keep)


def fold_queries(q: Tensor, w_k: Tensor, gain: Tensor, heads: int) -> Tensor:
    """Queries with gain and key projection folded in, scaled by the root of a head's width.

    Args:
        q: `[K, R]`.
        w_k: `[C, R]`.
        gain: `[C]`.
        heads: H; divides R.

    Returns:
        `[K, H, C]`.
    """
    k, r = q.shape
    split = q.view(k, heads, -1).transpose(0, 1) / math.sqrt(r // heads)  # H K R/H
    return fold_keys(split, w_k).transpose(0, 1) * gain


def _absorbed(
    q: Tensor,
    tokens: StoredTokens,
    w_k: Tensor,
    w_v: Tensor,
    gain: Tensor,
    bias: Tensor,
    heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """No keys and no values: K * H folded queries, and w_v after the weighted sums."""
    (k, r), c = q.shape, len(w_k)
    rows = fold_queries(q, w_k, gain, heads)  # K H C
    plain, mixes = NONE, 0
    if keep is not None:  # the mix's query before the heads of its meta-token: then no copy splits the sums
        rows, plain, mixes = torch.cat([keep[:, None], rows], dim=1), slice(0, None, heads + 1), 1
    sums, _ = token_pass(centered(rows.reshape(-1, c), -1), q.new_empty(0, c), tokens, plain)
    s = len(sums)
    mixed, by_head = torch.split(sums.view(s * k, mixes + heads, c), [mixes, heads], dim=1)
    out = project_sums(by_head.transpose(0, 1), gain, bias, w_v)  # H S*K R/H
    return mixed.reshape(s, k * mixes, c), out.transpose(0, 1).reshape(s, k, r)


def _projected(
    q: Tensor,
    tokens: StoredTokens,
    w_k: Tensor,
    w_v: Tensor,
    gain: Tensor,
    bias: Tensor,
    heads: int,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Keys and values from one product; the mean and deviation of LayerNorm stay folded."""
    (k, r), c = q.shape, len(w_k)
    both = torch.stack([w_k.view(c, heads, -1), w_v.view(c, heads, -1)], dim=2)  # C H 2 R/H: no copy splits them later
    queries = q.new_empty(0, c) if keep is None else centered(keep, -1)
    mixed, products = token_pass(queries, centered(gain[:, None] * both.view(c, -1), 0).t(), tokens, ALL)
    s, _, n = products.shape
    key, value = products.view(s * heads, 2, r // heads, n).unbind(1)  # S*H R/H N
    query = (q / math.sqrt(r // heads)).view(k, heads, -1).transpose(0, 1)  # H K R/H
    scores = torch.bmm(query.repeat(s, 1, 1).to(key.dtype), key)  # S*H K N
    if scores.requires_grad:
        scores.register_hook(lambda d_scores: balanced(d_scores.clone()))  # type: ignore[no-untyped-call]
    out = torch.bmm(scores.softmax(dim=-1), value.transpose(1, 2)).view(s, heads, k, r // heads)
    return mixed, out.transpose(1, 2).reshape(s, k, r) + bias @ w_v
