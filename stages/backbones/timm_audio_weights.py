"""Weights of timm models that were trained on pictures of sound, in their authors' layouts and at other lengths."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from avpipe.stages.backbones.contract import BackboneFacts

State = dict[str, Tensor]

AST_GRIDS = {1212: (12, 101, 10), 512: (8, 64, 16)}
"""Rows, columns and stride of AST's patches by their number, for the pictures of 128 x 1024 that it publishes."""
PATCH = 16


def fit(loaded: State, model: Any, facts: BackboneFacts) -> tuple[State, State]:
    """Brings a checkpoint into timm's layout.

    Args:
        loaded: tensors of the file by name.
        model: the timm model as it was built for these facts.
        facts: of the audio backbone.

    Returns:
        tensors that timm's own filter is to fit, and those that fit as they are: positions, whose grid timm would take
        for a square one.

    Raises:
        ValueError: they belong to another front end or model, or the grid of the positions cannot be told.
    """
    kind = facts.preprocess["front_end"]["kind"]
    if kind == "lavish":
        return _visual(loaded, model), {}
    if "v.pos_embed" in loaded:
        return _ast(loaded, model, kind)
    if "decoder_pos_embed" in loaded:
        loaded = _audiomae(loaded, kind)
    return _with_positions(_last_norm(loaded, model), model, along_rows=kind == "audiomae")


def _visual(loaded: State, model: Any) -> State:
    """Visual weights; timm's filter takes their positions for a square."""
    patches = loaded.get("patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4 and patches.shape[1] != model.patch_embed.proj.in_channels:
        raise ValueError(
            f"its pictures have {patches.shape[1]} channels: --audio-front-end lavish takes weights of frames in colour"
        )
    return loaded


def _ast(loaded: State, model: Any, kind: str) -> tuple[State, State]:
    """AST: a distilled DeiT under `v.`, beside a head that is left out.

    Published weights have overlapping patches (stride 10). Here patches lie side by side, so there are 512 instead of
    1212, each with the position where it lies on the old grid, between its neighbours. What is lost: the overlap, and
    with it some of what the blocks were trained to expect.
    """
    if kind != "ast":
        raise ValueError("AST's weights belong to --audio-front-end ast")
    state = {key.removeprefix("v."): value for key, value in loaded.items() if key.startswith("v.")}
    if not hasattr(model, "dist_token"):
        raise ValueError("AST's weights have two tokens in front: they need deit_base_distilled_patch16_384")
    stored = state.pop("pos_embed")
    if stored.shape[1] - 2 not in AST_GRIDS:
        raise ValueError(f"its {stored.shape[1] - 2} positions are none of AST's grids for 10 s ({list(AST_GRIDS)})")
    rows, columns, stride = AST_GRIDS[stored.shape[1] - 2]
    patches = stored[:, 2:].float().reshape(1, rows, columns, -1)
    for axis, count in enumerate(model.patch_embed.grid_size, start=1):
        patches = _between(patches, axis, torch.arange(count) * PATCH / stride)
    return state, {"pos_embed": torch.cat([stored[:, :2].float(), patches.flatten(1, 2)], dim=1)}


def _between(values: Tensor, axis: int, places: Tensor) -> Tensor:
    """Values at places between those of an axis, linearly; the last one behind its end."""
    places = places.clamp(max=values.shape[axis] - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=values.shape[axis] - 1)
    share = (places - below).view([-1 if each == axis else 1 for each in range(values.ndim)])
    return torch.lerp(values.index_select(axis, below), values.index_select(axis, above), share)


def _audiomae(loaded: State, kind: str) -> State:
    """AudioMAE's own checkpoint: its encoder; the decoder is left out, and so is the mask token.

    (timm would take the mask token for a sign of DINOv2.)
    """
    if kind != "audiomae":
        raise ValueError("AudioMAE's weights belong to --audio-front-end audiomae: time runs along the rows")
    return {key: value for key, value in loaded.items() if not key.startswith("decoder_") and key != "mask_token"}


def _last_norm(loaded: State, model: Any) -> State:
    """The norm behind the last block under the name that the model has for it; no tap is behind it."""
    names = ("norm.", "fc_norm.")
    wanted, other = names if isinstance(model.norm, torch.nn.LayerNorm) else names[::-1]
    if f"{wanted}weight" in loaded or f"{other}weight" not in loaded:
        return loaded
    renamed = {f"{wanted}{leaf}": loaded[f"{other}{leaf}"] for leaf in ("weight", "bias")}
    return {key: value for key, value in loaded.items() if not key.startswith(other)} | renamed


def _with_positions(loaded: State, model: Any, along_rows: bool) -> tuple[State, State]:
    """Positions of sound, for pictures of this length.

    A longer segment is a longer picture, so positions are resampled along time. timm would take the grid of the file
    for a square one; sound has as many bands as the model, whatever its length. Squares are left to timm.
    """
    stored, own = loaded.get("pos_embed"), getattr(model, "pos_embed", None)
    if stored is None or own is None:
        return loaded, {}
    prefix = own.shape[1] - model.patch_embed.num_patches
    count, grid = stored.shape[1] - prefix, list(model.patch_embed.grid_size)
    if math.isqrt(count) ** 2 == count:
        return loaded, {}
    bands = grid[1] if along_rows else grid[0]
    if count % bands:
        across = "columns" if along_rows else "rows"
        raise ValueError(f"its {count} positions are neither a square nor {bands} {across}, which pictures have here")
    old = [count // bands, bands] if along_rows else [bands, count // bands]
    rest = {key: value for key, value in loaded.items() if key != "pos_embed"}
    return rest, {"pos_embed": resample_abs_pos_embed(stored, grid, old, prefix)}
