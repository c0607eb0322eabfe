"""One pass over frozen tokens for all that attention asks of them, forward, and one backward.

Legend: S segments, N tokens, C channels, Q queries, P directions.

Kept for the backward pass: the stored tokens themselves (no copy, whatever their type), rstd `[S, N]` and the weights
`[S, Q, N]`. Float values of the tokens exist for one block at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avpipe.stages.attention.stored import Blocks, StoredTokens, inverse_deviation

SMALLEST_WEIGHT = 1e-20
"""Smaller weights are set to 0. They are far below the last digit of any sum, even in float64, and denormal numbers,
which sharp attention gives, make a product of matrices up to 30 times slower."""
NONE, ALL = slice(0, 0), slice(None)


def token_pass(queries: Tensor, directions: Tensor, tokens: StoredTokens, plain: slice = NONE) -> tuple[Tensor, Tensor]:
    """Attention sums of some queries, and the tokens along some directions, from one reading of the tokens.

    With `x~ = rstd * x` (LayerNorm without its mean, which is folded into what meets the tokens):
    `weights = softmax_N(queries x~^T)`, `sums = weights x~`, or `weights x` for the plain rows, and
    `products = directions x~^T`.

    Args:
        queries: `[Q, C]`, centred over C, the same for every segment; Q may be 0.
        directions: `[P, C]`, centred over C; P may be 0.
        tokens: the frozen tokens.
        plain: rows of `queries` whose sums are of the tokens as they are.

    Returns:
        sums `[S, Q, C]` and products `[S, P, N]`, float32 (float64 where an input is).
    """
    sums, products = _TokenPass.apply(queries, directions, tokens.values, tokens.rstd, tokens.scales, plain)
    return sums, products


def token_weights(queries: Tensor, tokens: StoredTokens) -> Tensor:
    """The weights of `token_pass` alone, `[S, Q, N]`; not differentiable."""
    with torch.no_grad(), torch.autocast(queries.device.type, enabled=False):
        dtype = tokens.compute_type(queries)
        return _Forward(queries.to(dtype), queries.new_empty(0, queries.shape[1], dtype=dtype), tokens, NONE).weigh()


class _Forward:
    """The forward pass: `weights`, `sums`, `products` and `rstd` of given shapes are filled."""

    def __init__(self, queries: Tensor, directions: Tensor, tokens: StoredTokens, plain: slice) -> None:
        self.queries, self.directions, self.plain = queries, directions, plain
        (s, n, _), dtype = tokens.values.shape, queries.dtype
        self.blocks = Blocks(tokens, dtype)
        self.known = tokens.rstd is not None
        self.rstd = queries.new_empty(s, n) if tokens.rstd is None else tokens.rstd.to(dtype)
        self.weights = queries.new_empty(s, len(queries), n)
        self.products = queries.new_empty(s, len(directions), n)

    def run(self) -> Tensor:
        """All of it; returns the sums."""
        s, q, _ = self.weights.shape
        sums = self.queries.new_zeros(s, q, self.queries.shape[1])
        for segments, parts in self.blocks.groups():
            self._scores(segments, parts)
            for tokens in parts:
                factors = _scaled(self.weights, self.rstd, segments, tokens, self.plain)
                sums[segments].baddbmm_(factors, self.blocks.read(segments, tokens))
        return sums

    def weigh(self) -> Tensor:
        """The weights alone."""
        for segments, parts in self.blocks.groups():
            self._scores(segments, parts)
        return self.weights

    def _scores(self, segments: slice, parts: list[slice]) -> None:
        """Weights and products of some segments."""
        for tokens in parts:
            block = self.blocks.read(segments, tokens)
            if not self.known:
                self.rstd[segments, tokens] = inverse_deviation(block)
            by = self.rstd[segments, None, tokens]
            for rows, out in ((self.queries, self.weights), (self.directions, self.products)):
                if len(rows):
                    torch.mul(_along(rows, block), by, out=out[segments, :, tokens])
        weights = self.weights[segments]
        torch.threshold(weights.softmax(dim=-1), SMALLEST_WEIGHT, 0.0, out=weights)


class _TokenPass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        directions: Tensor,
        values: Tensor,
        rstd: Tensor | None,
        scales: Tensor | None,
        plain: slice,
    ) -> tuple[Tensor, Tensor]:
        tokens = StoredTokens(values, rstd, scales)
        dtype = tokens.compute_type(queries)
        with torch.autocast(values.device.type, enabled=False):
            work = _Forward(queries.to(dtype), directions.to(dtype), tokens, plain)
            sums = work.run()
        ctx.plain, ctx.types = plain, (queries.dtype, directions.dtype)
        ctx.save_for_backward(values, work.rstd, scales, work.weights)
        return sums, work.products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sums: Tensor, d_products: Tensor) -> tuple[Tensor | None, ...]:
        values, rstd, scales, weights = ctx.saved_tensors
        blocks = Blocks(StoredTokens(values, rstd, scales), weights.dtype)
        d_queries = weights.new_zeros(d_sums.shape[1:])
        d_directions = weights.new_zeros(d_products.shape[1], values.shape[2])
        with torch.autocast(values.device.type, enabled=False):
            for segments, parts in blocks.groups():
                if len(d_queries):
                    d_scores = _score_gradients(blocks, segments, parts, (d_sums, weights, rstd), ctx.plain)
                for tokens in parts:
                    block, by = blocks.read(segments, tokens), rstd[segments, None, tokens]
                    rows = block.reshape(-1, block.shape[-1])
                    if len(d_queries):
                        d_queries.addmm_(_flat(d_scores[..., tokens].mul_(by)), rows)
                    if len(d_directions):
                        d_directions.addmm_(_flat(d_products[segments, :, tokens] * by), rows)
        queries_type, directions_type = ctx.types
        return d_queries.to(queries_type), d_directions.to(directions_type), None, None, None, None


def balanced(d_scores: Tensor) -> Tensor:
    """Gradients of scores, `[..., N]`, made to sum to 0 over the tokens, as those of a softmax do; changed in place.

    Rounding leaves a sum that is not quite 0, and what the scores' gradients multiply next are the tokens: a channel
    that is far from 0 in all of them would turn that rest into its own size. It goes to the first token ("our
    reading"), so that only the differences of tokens count.
    """
    d_scores[..., :1] -= d_scores.sum(dim=-1, keepdim=True)
    return d_scores


def _score_gradients(
    blocks: Blocks, segments: slice, parts: list[slice], saved: tuple[Tensor, Tensor, Tensor], plain: slice
) -> Tensor:
    """Gradients of the scores of some segments, `[s, Q, N]`, from those of the sums, the weights and rstd of all."""
    d_sums, weights, rstd = (each[segments] for each in saved)
    pieces = [torch.bmm(d_sums, blocks.read(segments, tokens).transpose(1, 2)) for tokens in parts]
    d_weights = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
    _normed(d_weights, rstd[:, None], plain)
    mean = (weights * d_weights).sum(dim=-1, keepdim=True)  # of the very numbers that it comes off
    return balanced(d_weights.sub_(mean).mul_(weights))


def _along(rows: Tensor, block: Tensor) -> Tensor:
    """`[Q, C]` times tokens `[s, n, C]`: `[s, Q, n]`."""
    return torch.bmm(rows.expand(len(block), *rows.shape), block.transpose(1, 2))


def _scaled(weights: Tensor, rstd: Tensor, segments: slice, tokens: slice, plain: slice) -> Tensor:
    """The weights of a block, times rstd but for the plain rows."""
    part = weights[segments, :, tokens]
    if len(range(part.shape[1])[plain]) == part.shape[1]:
        return part
    scaled = part * rstd[segments, None, tokens]
    scaled[:, plain] = part[:, plain]
    return scaled


def _normed(d_weights: Tensor, by: Tensor, plain: slice) -> None:
    """Multiplies all but the plain rows by rstd, in place."""
    count = d_weights.shape[1]
    if len(range(count)[plain]) == count:
        return
    kept = d_weights[:, plain].clone()
    d_weights.mul_(by)
    d_weights[:, plain] = kept


def _flat(x: Tensor) -> Tensor:
    """`[s, Q, n]` as `[Q, s * n]`, for one product over all tokens of a block."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)
