"""Key and value projections, applied to queries and to weighted sums of tokens instead of tokens.

Legend: H heads, K meta-tokens, M rows (segments and meta-tokens together), C channels, R width of all heads.

Both are small products. They have backward passes of their own because autograd would keep or copy matrices of the size
of the projection, at R = C more memory and time than all the rest of a layer's attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def fold_keys(q: Tensor, w_k: Tensor) -> Tensor:
    """`q w_k^T` head by head: `[H, K, C]`, of queries `[H, K, R/H]` and the key projection `[C, R]`."""
    out: Tensor = _FoldKeys.apply(q, w_k.to(q.dtype))
    return out


class _FoldKeys(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, w_k: Tensor) -> Tensor:
        ctx.save_for_backward(q, w_k)
        with torch.autocast(q.device.type, enabled=False):
            return torch.bmm(q, _by_head(w_k, len(q)).transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor]:
        q, w_k = ctx.saved_tensors
        d_w = torch.empty_like(w_k, memory_format=torch.contiguous_format)
        with torch.autocast(q.device.type, enabled=False):
            d_q = torch.bmm(d_out, _by_head(w_k, len(q)))
            torch.bmm(d_out.transpose(1, 2), q, out=_by_head(d_w, len(q)))
        return d_q, d_w


def project_sums(sums: Tensor, gain: Tensor, w_v: Tensor) -> Tensor:
    """`(sums - mean_C(sums)) * gain @ w_v`, each head with its part of `w_v`.

    Gain and mean are folded into a map that exists for the moment alone and is made again in the backward pass: kept
    for it, it would be larger than all else that is.

    Args:
        sums: `[H, M, C]`.
        gain: LayerNorm's gain `[C]`.
        w_v: value projection `[C, R]`, head after head.

    Returns:
        `[H, M, R/H]`, in the type of `sums`.
    """
    out: Tensor = _ProjectSums.apply(sums, gain.to(sums.dtype), w_v.to(sums.dtype))
    return out


class _ProjectSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, gain: Tensor, w_v: Tensor) -> Tensor:
        ctx.save_for_backward(sums, gain, w_v)
        with torch.autocast(sums.device.type, enabled=False):
            return torch.bmm(sums, _folded(gain, w_v, len(sums)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sums, gain, w_v = ctx.saved_tensors
        d_folded = torch.empty_like(w_v, memory_format=torch.contiguous_format)
        with torch.autocast(sums.device.type, enabled=False):
            d_sums = torch.bmm(d_out, _folded(gain, w_v, len(sums)).transpose(1, 2))
            torch.bmm(sums.transpose(1, 2), d_out, out=_by_head(d_folded, len(sums)))
        d_folded.sub_(d_folded.mean(dim=0))
        d_gain = torch.linalg.vecdot(d_folded, w_v)
        return d_sums, d_gain, d_folded.mul_(gain[:, None])


def _folded(gain: Tensor, w_v: Tensor, heads: int) -> Tensor:
    """`[H, C, R/H]`: the projection with the gain, centred over C."""
    folded = gain[:, None] * w_v
    return _by_head(folded.sub_(folded.mean(dim=0)), heads)


def _by_head(w: Tensor, heads: int) -> Tensor:
    """`[C, R]` as `[H, C, R/H]`, without a copy."""
    return w.view(len(w), heads, -1).transpose(0, 1)
