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


def project_sums(sums: Tensor, gain: Tensor, bias: Tensor, w_v: Tensor) -> Tensor:
    """`((sums - mean_C(sums)) * gain + bias) @ w_v`: the rest of LayerNorm, and each head's part of the projection.

    What is in the brackets is made again in the backward pass: kept for it, it would be as large as the sums.

    Args:
        sums: weighted sums of tokens without mean, `[H, M, C]`; each row's weights sum to one.
        gain: LayerNorm's gain `[C]`.
        bias: LayerNorm's bias `[C]`.
        w_v: value projection `[C, R]`, head after head.

    Returns:
        `[H, M, R/H]`, in the type of `sums`.
    """
    out: Tensor = _ProjectSums.apply(sums, gain.to(sums.dtype), bias.to(sums.dtype), w_v.to(sums.dtype))
    return out


class _ProjectSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, gain: Tensor, bias: Tensor, w_v: Tensor) -> Tensor:
        ctx.save_for_backward(sums, gain, bias, w_v)
        with torch.autocast(sums.device.type, enabled=False):
            return torch.bmm(torch.addcmul(bias, _less_mean(sums), gain), _by_head(w_v, len(sums)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sums, gain, bias, w_v = ctx.saved_tensors
        d_w = torch.empty_like(w_v, memory_format=torch.contiguous_format)
        with torch.autocast(sums.device.type, enabled=False):
            centred = _less_mean(sums)
            normed = torch.addcmul(bias, centred, gain)
            torch.bmm(normed.transpose(1, 2), d_out, out=_by_head(d_w, len(sums)))
            d_normed = torch.bmm(d_out, _by_head(w_v, len(sums)).transpose(1, 2), out=normed)
        d_bias = d_normed.sum(dim=(0, 1))
        d_gain = centred.mul_(d_normed).sum(dim=(0, 1))
        d_sums = d_normed.mul_(gain)
        return d_sums.sub_(d_sums.mean(dim=-1, keepdim=True)), d_gain, d_bias, d_w


def _less_mean(sums: Tensor) -> Tensor:
    return sums - sums.mean(dim=-1, keepdim=True)


def _by_head(w: Tensor, heads: int) -> Tensor:
    """`[C, R]` as `[H, C, R/H]`, without a copy."""
    return w.view(len(w), heads, -1).transpose(0, 1)
