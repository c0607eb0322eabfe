"""Frozen tokens as they are stored, and their values block by block.

Legend: S segments (batch and time together), N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avpipe.stages.statistics import EPS

CAST_ELEMENTS = 1 << 19
"""Elements of a block on a CPU whose tokens have to be converted: 2 MiB in float32, which stay in a core's cache."""
PLACE_ELEMENTS = 1 << 22
"""The same where tokens are used in place: the block bounds what is computed from them at once."""
DEVICE_ELEMENTS = 1 << 25
"""Elements of a block on any other device, where few large operations count."""
SPREAD_ELEMENTS = 1 << 17
"""Elements from which the mean is taken off at a time."""


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """Tokens of one tap. They are frozen: no gradient ever reaches them.

    Attributes:
        values: `[S, N, C]`, any float type, or int8 with `scales`.
        rstd: `[S, N]`, one over the deviation of each token over its channels, where it is stored; else it is computed
            block by block.
        scales: `[S, C]`, a factor for each segment and channel: a token is `values * scales`.
    """

    values: Tensor
    rstd: Tensor | None = None
    scales: Tensor | None = None

    def compute_type(self, other: Tensor) -> torch.dtype:
        """The type in which these tokens and `other` meet: float32, or float64 where one of them has it."""
        return torch.float64 if torch.float64 in (self.values.dtype, other.dtype) else torch.float32


class Blocks:
    """The values of stored tokens in the type of the computation, one block at a time.

    Tokens of that type, without scales, are used in place. Others are converted into one buffer that is used again and
    again, so a block is good until the next one is read.

    Args:
        tokens: what is stored.
        dtype: type of the computation.
    """

    def __init__(self, tokens: StoredTokens, dtype: torch.dtype) -> None:
        self._values, self._scales, self._dtype = tokens.values, tokens.scales, dtype
        self._in_place = tokens.values.dtype == dtype and tokens.scales is None
        self._buffer: Tensor | None = None
        self._held: tuple[slice, slice] | None = None

    def groups(self) -> Iterator[tuple[slice, list[slice]]]:
        """Segments that fit into a block, and all their tokens; or one large segment, and its tokens part by part."""
        s, n, c = self._values.shape
        limit = self._limit()
        tokens, segments = max(1, limit // max(1, c)), max(1, limit // max(1, n * c))
        parts = [slice(start, min(n, start + tokens)) for start in range(0, n, tokens)]
        for start in range(0, s, segments):
            yield slice(start, min(s, start + segments)), parts

    def read(self, segments: slice, tokens: slice) -> Tensor:
        """A block, `[segments, tokens, C]`. Asked for again before another one, it is not converted again."""
        stored = self._values[segments, tokens]
        if self._in_place:
            return stored
        block = self._room(stored)
        if self._held != (segments, tokens):
            block.copy_(stored)
            if self._scales is not None:
                block.mul_(self._scales[segments, None])
            self._held = (segments, tokens)
        return block

    def _room(self, stored: Tensor) -> Tensor:
        if self._buffer is None:  # the first block is the largest
            self._buffer = torch.empty(stored.numel(), dtype=self._dtype, device=stored.device)
        return self._buffer[: stored.numel()].view(stored.shape)

    def _limit(self) -> int:
        if self._values.device.type != "cpu":
            return DEVICE_ELEMENTS
        return PLACE_ELEMENTS if self._in_place else CAST_ELEMENTS


def inverse_deviation(block: Tensor) -> Tensor:
    """`1 / sqrt(variance + EPS)` over the channels, as LayerNorm has it, of `[..., C]`.

    The mean is taken off before squares are summed: tokens whose mean is far from 0 would lose their digits otherwise.
    """
    rows = block.reshape(-1, block.shape[-1])
    at_once = max(1, (SPREAD_ELEMENTS if block.device.type == "cpu" else DEVICE_ELEMENTS) // block.shape[-1])
    room, spread = torch.empty_like(rows[:at_once]), rows.new_empty(len(rows))
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        centred = torch.sub(part, part.mean(dim=-1, keepdim=True), out=room[: len(part)])
        torch.linalg.vector_norm(centred, dim=-1, out=spread[start : start + at_once])
    return torch.rsqrt(spread.square_().div_(block.shape[-1]).add_(EPS)).view(block.shape[:-1])
