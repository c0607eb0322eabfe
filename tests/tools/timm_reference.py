"""A forward pass of timm's models written out by hand, block by block, without hooks: what taps are compared with.

Legend: B batch, N tokens, C channels; Swin's tokens are [B, rows, columns, C].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Steps = dict[str, tuple[Tensor, Tensor]]
"""Input and output of every block by tap, in order of depth."""


@torch.inference_mode()
def steps(model: Any, pictures: Tensor, rope: bool = True) -> Steps:
    """Runs a model on pictures [B, channels, H, W]; `rope=False` leaves rotary positions out."""
    if hasattr(model, "layers"):
        return _swin(model, pictures)
    x, rotary = _embedded(model, pictures), _rotary(model) if rope else None
    found: Steps = {}
    for number, block in enumerate(model.blocks):
        if rotary is None:
            y = block(x)
        else:
            y = block(x, rope=rotary[number] if getattr(model, "rope_mixed", False) else rotary)
        found[f"blocks.{number}"], x = (x, y), y
    return found


def _embedded(model: Any, pictures: Tensor) -> Tensor:
    """Patches, class, distillation and register tokens, positions."""
    x = model.patch_embed.proj(pictures).flatten(2).transpose(1, 2)
    x = model.patch_embed.norm(x)
    names = ("cls_token", "dist_token", "reg_token")
    prefix = [token.expand(len(x), -1, -1) for name in names if (token := getattr(model, name, None)) is not None]
    position: Tensor | None = getattr(model, "pos_embed", None)
    if position is not None and position.shape[1] == x.shape[1]:
        x = torch.cat([*prefix, x + position], dim=1)
    elif position is not None:
        x = torch.cat([*prefix, x], dim=1) + position
    else:
        x = torch.cat([*prefix, x], dim=1)
    embedded: Tensor = model.norm_pre(x)
    return embedded


def _rotary(model: Any) -> Tensor | None:
    rope = getattr(model, "rope", None)
    return None if rope is None else rope.get_embed(shape=model.patch_embed.grid_size)


def _swin(model: Any, pictures: Tensor) -> Steps:
    x = model.patch_embed.norm(model.patch_embed.proj(pictures).permute(0, 2, 3, 1))
    found: Steps = {}
    for number, stage in enumerate(model.layers):
        x = stage.downsample(x)
        for position, block in enumerate(stage.blocks):
            y = block(x)
            found[f"layers.{number}.blocks.{position}"] = x.flatten(1, 2), y.flatten(1, 2)
            x = y
    return found


def change(before: Tensor, after: Tensor) -> float:
    """How far a block moves its input, relative to it."""
    return float((after - before).norm() / before.norm())


class Skipped(nn.Module):
    """A block that does nothing."""

    def forward(self, x: Tensor, **others: Any) -> Tensor:
        """What went in."""
        return x
