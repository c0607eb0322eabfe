"""What is known of timm's models without importing timm: a table that ships with avpipe.

`data_manifests/backbones.json` is written by `benchmarks/make_backbone_table.py` and holds every model of timm whose
class is in `KINDS`, but those with a convolutional stem in front of their patches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones.contract import Stage

KINDS = {
    "VisionTransformer": "vit",
    "VisionTransformerDistilled": "distilled",
    "Eva": "eva",
    "SwinTransformer": "swin",
    "SwinTransformerV2": "swinv2",
}
"""Names of kinds by timm's class: ViT with CLIP, DINOv2 and SigLIP; DeiT distilled; EVA and DINOv3; Swin; Swin-V2."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel, of values between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table says of one architecture.

    Attributes:
        kind: one of `KINDS`.
        blocks: number of blocks of each stage.
        widths: channels of each stage.
        patch: rows and columns of a patch in pixels.
        image: usual height and width of the input in pixels.
        prefix_tokens: class and register tokens.
        norm: normalisation of the usual weights.
        default_tag: name of the usual weights, empty where a hub has none.
        tags: normalisation by name of the weights that a hub has.
        channels: of the input: 3, or 1 for models of sound.
        timm_name: what timm builds; empty: the model's own name.
        options: what it is built with, beside the input size.
        hub: what timm takes to fetch pretrained weights; empty: the model's own name.
    """

    kind: str
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    patch: tuple[int, int]
    image: tuple[int, int]
    prefix_tokens: int
    norm: Normalisation
    default_tag: str = ""
    tags: Mapping[str, Normalisation] = field(default_factory=dict)
    channels: int = 3
    timm_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    hub: str = ""

    def check(self, model: str, size: tuple[int, int]) -> None:
        """Refuses an input size in pixels that is no whole number of patches, but for the model's own.

        timm cuts such a picture without a word; two SigLIPs (384 pixels, patches of 14) were trained so. Every other
        size is one that timm builds and runs: windows larger than the grid shrink to it, grids that are no multiple
        of the window are padded, odd ones are padded to merge.
        """
        if size != self.image and any(
            side < patch or side % patch for side, patch in zip(size, self.patch, strict=True)
        ):
            rows, columns = self.patch
            each = f"{rows} pixels" if rows == columns else f"{rows} x {columns} pixels"
            given = size[0] if size[0] == size[1] else f"{size[0]} x {size[1]}"
            raise UsageError(
                f"image size {given} of {model} is no multiple of its patch, {each}: "
                f"give one, such as {_nearest(size[0], rows)}; its own is {self.image[0]}"
            )

    def stages(self, size: tuple[int, int]) -> tuple[Stage, ...]:
        """Stages for an input of this size in pixels: each halves the grid of the one before it, rounding up."""
        rows, columns = (side // patch for side, patch in zip(size, self.patch, strict=True))
        found = []
        for blocks, width in zip(self.blocks, self.widths, strict=True):
            found.append(Stage(blocks, width, (rows, columns)))
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        return tuple(found)


def _nearest(side: int, patch: int) -> int:
    return max(1, round(side / patch)) * patch


@cache
def table() -> Mapping[str, Entry]:
    """Entries by name of the architecture, sorted."""
    found = json.loads(files("avpipe.data_manifests").joinpath("backbones.json").read_text(encoding="utf-8"))
    norms = [(tuple(mean), tuple(std)) for mean, std in found["norms"]]
    return MappingProxyType({name: _entry(row, norms) for name, row in found["models"].items()})


def _entry(row: dict[str, Any], norms: list[Normalisation]) -> Entry:
    return Entry(
        kind=row["kind"],
        blocks=tuple(row["blocks"]),
        widths=tuple(row["widths"]),
        patch=(row["patch"][0], row["patch"][1]),
        image=(row["image"][0], row["image"][1]),
        prefix_tokens=row["prefix_tokens"],
        norm=norms[row["norm"]],
        default_tag=row["default_tag"],
        tags={tag: norms[number] for tag, number in row["tags"].items()},
    )
