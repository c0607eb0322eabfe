"""Losses of masks, and masks at other sizes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
