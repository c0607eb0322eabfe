"""Tokens of several taps as maps of one width, one map for each resolution."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.distill.common import ToCommonWidth

Grid = tuple[int, int]


class Pyramid(nn.Module):
    """Maps of width d, coarse to fine: one for each grid of the taps.

    Taps on one grid (of one stage, or all taps of a ViT) are mapped to d channels, each by itself, and averaged. Where
    all taps have one grid, the levels of a simple pyramid are made of its map: the map halved by averaging, the map
    itself, and the map doubled by a transposed convolution.

    The coarsest grid has learned positions, which are all there is without visual taps.

    Args:
        taps: `(N, C)` of each visual tap; empty where no visual features are used.
        grids: rows and columns of the patch tokens by tap; a single entry of any name without taps.
        prefix_tokens: tokens before the patches (class token, registers), which are left out.
        width: d.

    Attributes:
        sizes: rows and columns of each level.
    """

    def __init__(
        self, taps: Mapping[str, tuple[int, int]], grids: Mapping[str, Grid], prefix_tokens: int, width: int
    ) -> None:
        super().__init__()
        self.grids, self.prefix_tokens = {tap: grids[tap] for tap in taps}, prefix_tokens
        known = sorted(set((self.grids or grids).values()), key=lambda grid: grid[0] * grid[1])
        self.coarsest = known[0]
        self.maps = nn.ModuleList(ToCommonWidth(channels, width) for _, channels in taps.values())
        self.positions = nn.Parameter(torch.randn(width, *self.coarsest) * 0.02)
        self.single = len(known) == 1
        if self.single:
            rows, columns = known[0]
            known = [((rows + 1) // 2, (columns + 1) // 2), known[0], (2 * rows, 2 * columns)]
            self.doubled = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.sizes: tuple[Grid, ...] = tuple(known)

    def forward(self, visual: Mapping[str, Tensor], frames: int) -> list[Tensor]:
        """Maps `[S, d, rows, columns]`, one for each of `sizes`.

        Args:
            visual: visual tokens by tap, `[B, T, N, C]`.
            frames: S = B * T.
        """
        found: dict[Grid, list[Tensor]] = {}
        for (tap, grid), to_common in zip(self.grids.items(), self.maps, strict=True):
            patches = to_common(visual[tap].flatten(0, 1)[:, self.prefix_tokens :].float())  # S P d
            found.setdefault(grid, []).append(patches.transpose(1, 2).unflatten(2, grid))
        levels = {grid: torch.stack(maps).mean(dim=0) if len(maps) > 1 else maps[0] for grid, maps in found.items()}
        positions = self.positions.expand(frames, -1, -1, -1)
        levels[self.coarsest] = levels[self.coarsest] + positions if self.coarsest in levels else positions
        if not self.single:
            return [levels[size] for size in self.sizes]
        base = levels[self.coarsest]
        return [functional.avg_pool2d(base, 2, ceil_mode=True), base, self.doubled(base)]
