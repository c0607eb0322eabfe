"""Segmentation: a mask for the frame of every segment, decoded from cached patch tokens.

The papers use AVSBench's decoder on the backbone's four stages; Mettle adds meta-tokens that guide earlier layers.
This decoder is our choice for a ViT's one resolution: taps are mapped to a common width on their grid and added, the
meta-tokens are brought in by a product of the kind of AVSBench's TPAVI and by a gate on channels, and convolutions
double the resolution until it is at least a quarter of the mask's.

Without visual features only a learned position grid is left beside the sound: a control that shows what can be had
from knowing where objects tend to be.

Legend: B batch, T segments, S = B * T, N tokens, C channels, P grid positions, M all meta-tokens, d width.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.distill import Distilled
from avpipe.stages.distill.common import ToCommonWidth

NARROWEST = 16


class GuideFusion(nn.Module):
    """Brings meta-tokens into the positions of a frame; the identity (up to a LayerNorm) at the start.

    `z = LN(x + W_z(f g))` with `f = theta(x) phi(m)^T / M`, the form of TPAVI (AVSBench) with this segment's
    meta-tokens in the place of all pixels of all frames; then each channel is scaled by a gate from the vectors of
    the modalities, so that a silent second can switch the whole frame off.

    Args:
        modalities: names of the modalities, in the order in which they are joined.
        width: d.
    """

    def __init__(self, modalities: tuple[str, ...], width: int) -> None:
        super().__init__()
        inner = width // 2
        self.modalities, self.scale = modalities, inner**-0.5
        self.kind = nn.Parameter(torch.randn(len(modalities), width) * 0.02)
        self.guide_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.theta, self.phi, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.back, self.gate = nn.Linear(inner, width), nn.Linear(width * len(modalities), width)
        for layer in (self.back, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, distilled: Mapping[str, Distilled]) -> Tensor:
        """Fuses positions `[S, P, d]` with `top` `[B, T, K, d]` and `vector` `[B, T, d]` of every modality."""
        tops = [distilled[m].top.flatten(0, 1) + kind for m, kind in zip(self.modalities, self.kind, strict=True)]
        guides = self.guide_norm(torch.cat(tops, dim=1))  # S M d
        alike = self.theta(x) @ self.phi(guides).transpose(1, 2) * (self.scale / guides.shape[1])  # S P M
        x = self.norm(x + self.back(alike @ self.value(guides)))
        vectors = torch.cat([distilled[m].vector for m in self.modalities], dim=-1).flatten(0, 1)
        gated: Tensor = x * (2 * torch.sigmoid(self.gate(vectors)))[:, None]
        return gated


class Upsampler(nn.Module):
    """Convolutions that double the resolution and halve the channels, step by step, down to one logit a pixel.

    Args:
        width: channels that come in.
        steps: how often the resolution doubles.
        dropout: rate of whole channels dropped before the last layer.
    """

    def __init__(self, width: int, steps: int, dropout: float) -> None:
        super().__init__()
        widths = [width] + [max(width >> step, NARROWEST) for step in range(1, steps + 1)]
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in widths)
        self.drop = nn.Dropout2d(dropout)
        self.to_logit = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[S, d, h, w]` to logits `[S, h * 2**steps, w * 2**steps]`."""
        x = functional.gelu(self.norms[0](self.mix(x)))
        for conv, norm in zip(self.convs, list(self.norms)[1:], strict=True):
            # Convolving before the doubling costs a quarter; the blur of the doubling is undone by the next layer.
            x = functional.interpolate(conv(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = functional.gelu(norm(x))
        logits: Tensor = self.to_logit(self.drop(x))
        return logits[:, 0]


class MaskHead(nn.Module):
    """Mask logits for the frame of every segment.

    Args:
        taps: `(N, C)` of each visual tap; empty where no visual features are used.
        grid: rows and columns of the patch tokens.
        prefix_tokens: tokens before the patches (class token, registers), which the decoder leaves out.
        mask_size: height and width of the masks, pixels.
        modalities: names of the modalities that guide it.
        width: d.
        dropout: rate in the up-sampler.
    """

    def __init__(
        self,
        taps: Mapping[str, tuple[int, int]],
        grid: tuple[int, int],
        prefix_tokens: int,
        mask_size: tuple[int, int],
        modalities: tuple[str, ...],
        *,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.taps, self.grid, self.prefix_tokens, self.mask_size = tuple(taps), grid, prefix_tokens, mask_size
        self.maps = nn.ModuleList(ToCommonWidth(c, width) for _, c in taps.values())
        self.positions = nn.Parameter(torch.randn(grid[0] * grid[1], width) * 0.02)
        self.fuse = GuideFusion(modalities, width)
        self.up = Upsampler(width, _doublings(grid, mask_size), dropout)

    def forward(self, visual: Mapping[str, Tensor], distilled: Mapping[str, Distilled]) -> Tensor:
        """Decodes.

        Args:
            visual: visual tokens by tap, `[B, T, N, C]`; empty where no visual features are used.
            distilled: per modality, `vector` `[B, T, d]` and `top` `[B, T, K, d]`.

        Returns:
            logits `[B, T, h, w]` at the decoder's own resolution; see `to_mask_size`.
        """
        b, t = next(iter(distilled.values())).vector.shape[:2]
        pixels = self.positions.expand(b * t, -1, -1)
        for tap, to_common in zip(self.taps, self.maps, strict=True):
            patches = visual[tap].flatten(0, 1)[:, self.prefix_tokens :].float()
            pixels = pixels + to_common(patches) / len(self.taps)
        pixels = self.fuse(pixels, distilled)  # S P d
        logits: Tensor = self.up(pixels.transpose(1, 2).reshape(b * t, -1, *self.grid))
        return logits.view(b, t, *logits.shape[1:])


def to_mask_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits `[S, h, w]` at another height and width, bilinear."""
    return functional.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def mask_loss(logits: Tensor, masks: Tensor, dice_weight: float) -> Tensor:
    """Binary cross-entropy plus dice, mean over frames.

    Args:
        logits: `[S, H, W]`.
        masks: truth, 0 or 1, float32 `[S, H, W]`.
        dice_weight: weight of `1 - dice`, dice smoothed by one pixel so that an empty mask asks for an empty answer.
    """
    bce = functional.binary_cross_entropy_with_logits(logits, masks)
    chance, truth = logits.sigmoid().flatten(1), masks.flatten(1)
    overlap = (2 * (chance * truth).sum(1) + 1) / (chance.sum(1) + truth.sum(1) + 1)
    return bce + dice_weight * (1 - overlap).mean()


def _doublings(grid: tuple[int, int], mask_size: tuple[int, int]) -> int:
    """How often the grid doubles until both sides are at least a quarter of the mask's."""
    steps = 0
    while any(4 * (side << steps) < full for side, full in zip(grid, mask_size, strict=True)):
        steps += 1
    return steps
