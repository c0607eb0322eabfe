"""The decoder: from a pyramid of maps, coarse to fine, to logits of masks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.distill import Distilled
from avpipe.stages.heads.mask.fusion import GuideFusion
from avpipe.stages.heads.mask.pyramid import Grid, Pyramid

NARROWEST = 16
"""Channels of the finest maps at least; with several classes as many as there are, up to the decoder's width."""
BACKGROUND = 0.9
"""Probability of class 0 at the start, about its share of all pixels; else the first steps learn nothing but that."""


class MaskHead(nn.Module):
    """Logits of masks for the frame of every segment, binary or of several classes.

    Meta-tokens are fused into every level of the pyramid; then, from the coarsest level on, each is brought to the
    size of the next finer one and added to it. Any taps will do: a few on one grid, the stages of a Swin, or none.

    Args:
        taps: `(N, C)` of each visual tap; empty where no visual features are used.
        grids: rows and columns of the patch tokens by tap; one entry of any name where no visual features are used.
        prefix_tokens: tokens before the patches (class token, registers), which the decoder leaves out.
        mask_size: height and width of the masks, pixels.
        modalities: names of the modalities that guide it.
        width: d.
        dropout: rate in the up-sampler.
        classes: number of classes, background included; 1 for binary masks.
    """

    def __init__(
        self,
        taps: Mapping[str, tuple[int, int]],
        grids: Mapping[str, Grid],
        prefix_tokens: int,
        mask_size: tuple[int, int],
        modalities: tuple[str, ...],
        *,
        width: int,
        dropout: float,
        classes: int = 1,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.pyramid = Pyramid(taps, grids, prefix_tokens, width)
        sizes = self.pyramid.sizes
        self.fuse = nn.ModuleList(GuideFusion(modalities, width) for _ in sizes)
        self.merge = nn.ModuleList(Merge(width) for _ in sizes[1:])
        self.up = Upsampler(width, _doublings(sizes[-1], mask_size), dropout, classes)

    def forward(self, visual: Mapping[str, Tensor], distilled: Mapping[str, Distilled]) -> Tensor:
        """Decodes.

        Args:
            visual: visual tokens by tap, `[B, T, N, C]`; empty where no visual features are used.
            distilled: per modality, `vector` `[B, T, d]` and `top` `[B, T, K, d]`.

        Returns:
            logits at the decoder's own resolution, a quarter of the masks' or finer: `[B, T, h, w]`, with several
            classes `[B, T, classes, h, w]`; see `losses.to_mask_size`.
        """
        b, t = next(iter(distilled.values())).vector.shape[:2]
        levels = self.pyramid(visual, b * t)
        x, *finer = [fuse(level, distilled) for fuse, level in zip(self.fuse, levels, strict=True)]
        for level, merge in zip(finer, self.merge, strict=True):
            x = merge(x, level)
        logits: Tensor = self.up(x).unflatten(0, (b, t))
        return logits if self.classes > 1 else logits[:, :, 0]


class Merge(nn.Module):
    """Adds a coarse map, brought to the size of a finer one, to it, and smooths the sum.

    Args:
        width: d.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Merges `[S, d, h, w]` into `[S, d, h', w']`."""
        grown = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        merged: Tensor = functional.gelu(self.norm(self.conv(fine + grown)))
        return merged


class Upsampler(nn.Module):
    """Convolutions that double the resolution and halve the channels, step by step, and logits from the last.

    Args:
        width: channels that come in.
        steps: how often the resolution doubles.
        dropout: rate of whole channels dropped before the last layer.
        classes: logits for each pixel.
    """

    def __init__(self, width: int, steps: int, dropout: float, classes: int) -> None:
        super().__init__()
        narrowest = max(NARROWEST, min(width, classes))
        widths = [width] + [max(width >> step, narrowest) for step in range(1, steps + 1)]
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in widths)
        self.drop = nn.Dropout2d(dropout)
        self.to_logits = nn.Conv2d(widths[-1], classes, 1)
        if classes > 1:
            start = torch.zeros(classes)
            start[0] = log(BACKGROUND / (1 - BACKGROUND) * (classes - 1))
            self.to_logits.bias = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[S, d, h, w]` to logits `[S, classes, h * 2**steps, w * 2**steps]`."""
        x = functional.gelu(self.norms[0](self.mix(x)))
        for conv, norm in zip(self.convs, list(self.norms)[1:], strict=True):
            # Convolving before the doubling costs a quarter; the blur of the doubling is undone by the next layer.
            x = functional.interpolate(conv(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = functional.gelu(norm(x))
        logits: Tensor = self.to_logits(self.drop(x))
        return logits


def _doublings(grid: Grid, mask_size: Grid) -> int:
    """How often the grid doubles until both sides are at least a quarter of the mask's."""
    steps = 0
    while any(4 * (side << steps) < full for side, full in zip(grid, mask_size, strict=True)):
        steps += 1
    return steps
