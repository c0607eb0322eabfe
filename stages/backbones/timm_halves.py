"""The two halves of timm's blocks: attention, then a feed-forward network, each added to its input.

timm's blocks run both in one call. Written out, a block is `x + scale * f(norm(x))` twice, or, with the normalisation
behind, `x + norm(f(x))` twice; Swin's attention works on the grid of tokens.

Legend: S segments, N tokens, C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones.timm_weights import POST_NORM

WINDOWED = ("SwinTransformerBlock", "SwinTransformerV2Block")
"""Blocks whose attention takes `[S, H, W, C]`."""
KNOWN = ("Block", "EvaBlock", "SwinTransformerBlock", *POST_NORM)


def attention(block: nn.Module, x: Tensor, grid: tuple[int, int], rotary: Tensor | None) -> Tensor:
    """`x` and what a block's attention adds to it.

    Args:
        block: of timm.
        x: [S, N, C].
        grid: rows and columns of the tokens, for Swin.
        rotary: positions, for blocks that take them.

    Raises:
        UsageError: a block that cannot be halved.
    """
    parts, after = _checked(block)
    given = x if after else parts.norm1(x)
    if type(block).__name__ in WINDOWED:
        added = parts._attn(given.view(len(x), *grid, -1)).flatten(1, 2)
    else:
        added = parts.attn(given) if rotary is None else parts.attn(given, rope=rotary)
    out: Tensor = x + (parts.norm1(added) if after else _scaled(block, 1, added))
    return out


def feed_forward(block: nn.Module, x: Tensor) -> Tensor:
    """`x` and what a block's feed-forward network adds to it, [S, N, C].

    Raises:
        UsageError: a block that cannot be halved.
    """
    parts, after = _checked(block)
    out: Tensor = x + (parts.norm2(parts.mlp(x)) if after else _scaled(block, 2, parts.mlp(parts.norm2(x))))
    return out


def _checked(block: nn.Module) -> tuple[Any, bool]:
    """The block, and whether its normalisation comes behind what it normalises."""
    kind = type(block).__name__
    if kind not in KNOWN:
        raise UsageError(
            f"timm's {kind} has no attention followed by a feed-forward network, so nothing can be put between or "
            f"beside them; blocks that can be halved: {', '.join(KNOWN)}. Choose a backbone with one of these"
        )
    return block, kind in POST_NORM


def _scaled(block: Any, half: int, added: Tensor) -> Tensor:
    """LayerScale, where the block has one: EVA's `gamma_1` and `gamma_2`, ViT's `ls1` and `ls2`."""
    gamma = getattr(block, f"gamma_{half}", None)
    if gamma is not None:
        scaled: Tensor = gamma * added
        return scaled
    scale = getattr(block, f"ls{half}", None)
    return added if scale is None else scale(added)
