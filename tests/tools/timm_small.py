"""Small models of every family of timm's: the classes and all that makes them special, few and narrow blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, BackboneFacts, facts_of
from avpipe.stages.backbones.timm_model import TimmModel
from avpipe.stages.backbones.timm_table import Entry, table


@dataclass(frozen=True)
class Case:
    """A model made small."""

    model: str
    size: int
    blocks: tuple[int, ...] = (4,)
    widths: tuple[int, ...] = (48,)
    options: dict[str, Any] = field(default_factory=lambda: {"depth": 4, "embed_dim": 48, "num_heads": 4})

    @property
    def entry(self) -> Entry:
        """Its line of the table."""
        return replace(table()[self.model], blocks=self.blocks, widths=self.widths, options=self.options)

    def facts(self, size: int | None = None, precision: str = "float32") -> BackboneFacts:
        """What is known of it, for frames of its own size or of another."""
        side = size or self.size
        whole = facts_of(BackboneChoice("visual", self.model, "random:3", side, precision=precision), Timeline())
        return replace(whole, stages=self.entry.stages((side, side)))

    def load(
        self,
        weights: str = "random:3",
        taps: tuple[str, ...] = (),
        size: int | None = None,
        precision: str = "float32",
        compiled: bool = False,
    ) -> TimmModel:
        """The model with some taps, or all."""
        facts = self.facts(size, precision)
        choice = BackboneChoice("visual", self.model, weights, size or self.size)
        return TimmModel(choice, facts, self.entry, taps or tuple(facts.taps), "cpu", compiled)


SWIN = {"depths": (2, 2, 4, 2), "embed_dim": 16, "num_heads": (1, 2, 4, 8)}
SIZES = ((2, 2, 4, 2), (16, 32, 64, 128))
CASES = {
    "ViT": Case("vit_tiny_patch16_224", 64),
    "DeiT": Case("deit_tiny_distilled_patch16_224", 64),
    "CLIP": Case("vit_base_patch16_clip_224", 64),
    "SigLIP": Case("vit_base_patch16_siglip_224", 64),
    "DINOv2": Case("vit_small_patch14_reg4_dinov2", 70),
    "DINOv3": Case("vit_small_patch16_dinov3", 64),
    "DINOv3, SwiGLU": Case("vit_small_plus_patch16_dinov3", 64),
    "mixed RoPE": Case("vit_small_patch16_rope_mixed_224", 64),
    "EVA": Case("eva_giant_patch14_224", 56),
    "EVA-02": Case("eva02_tiny_patch14_224", 56),
    "EVA-02 CLIP": Case("eva02_large_patch14_clip_224", 56),
    "EVA-02, norm behind": Case("eva02_enormous_patch14_clip_224", 56),
    "Swin": Case("swin_tiny_patch4_window7_224", 100, *SIZES, SWIN),
    "Swin-V2": Case("swinv2_large_window12_192", 112, *SIZES, SWIN),
}


@cache
def frames(size: int, count: int = 2) -> np.ndarray:
    """Frames of noise."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
