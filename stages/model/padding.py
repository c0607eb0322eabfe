"""Segments that are there, and their places among those that pad a batch: a backbone need not run on padding.

Legend: B batch, T segments, S segments that are present.
"""

from __future__ import annotations

from torch import Tensor


def present_only(x: Tensor, present: Tensor) -> Tensor:
    """Of `[B, T, ...]` the segments for which `present` `[B, T]` holds, `[S, ...]`; no copy where all are there."""
    flat = x.flatten(0, 1)
    return flat if bool(present.all()) else flat[present.flatten()]


def spread(x: Tensor, present: Tensor) -> Tensor:
    """`[S, ...]` at their places in `[B, T, ...]`, zeros elsewhere; no copy where all are there."""
    if len(x) == present.numel():
        return x.reshape(*present.shape, *x.shape[1:])
    everything = x.new_zeros(*present.shape, *x.shape[1:])
    everything[present] = x
    return everything
