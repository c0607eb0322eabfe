"""timm's plain ViTs as a family: facts from a table that ships with avpipe, so that nothing imports torch to plan.

The table (`data_manifests/backbones.json`) is written by `benchmarks/make_backbone_table.py`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones.contract import Backbone, BackboneChoice, BackboneFacts, Stage

LOGMEL: dict[str, Any] = {
    "kind": "logmel",
    "n_fft": 512,
    "window": 400,
    "hop": 160,
    "mels": 128,
    "mel_scale": "htk",
    "low_hz": 0.0,
    "high_hz": 8000.0,
    "floor": 1e-6,
    "mean": -6.0,
    "std": 4.0,
}
"""The front end of timm ViTs on sound: power spectrogram, natural logarithm, fixed standardisation (our choice)."""


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files("avpipe.data_manifests").joinpath("backbones.json").read_text(encoding="utf-8")
    models: dict[str, dict[str, Any]] = json.loads(text)["models"]
    return models


class TimmVitFamily:
    """Any timm model that is a plain `VisionTransformer` (ViT, DeiT, CLIP, DINO, SigLIP, ...)."""

    libraries = ("torch", "timm", "pillow")

    def names(self) -> list[str]:
        """Architecture names."""
        return list(_table())

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts from the table; frames are squashed to the input size, sound becomes a one-channel log-mel image."""
        architecture, _, tag = choice.model.partition(".")
        entry = _table().get(architecture)
        if entry is None:
            return None
        if tag and tag not in entry["tags"]:
            raise unknown_name(f"weights tag of {architecture}", tag, entry["tags"])
        patch_h, patch_w = entry["patch"]
        if choice.modality == "visual":
            size = (choice.image_size, choice.image_size) if choice.image_size else tuple(entry["image"])
            preprocess = _normalisation(choice, entry, tag)
            if size[0] % patch_h or size[1] % patch_w:
                raise UsageError(
                    f"image size {size[0]} of {choice.model} is no multiple of its patch, {patch_h} pixels"
                )
        else:
            size, preprocess = _mel_size(choice, timeline, patch_h, patch_w), {"front_end": _front_end(timeline)}
        return BackboneFacts(
            model=architecture,
            family="timm-vit",
            modality=choice.modality,
            stages=(Stage(entry["depth"], entry["width"], (size[0] // patch_h, size[1] // patch_w)),),
            prefix_tokens=entry["prefix_tokens"],
            input_size=(size[0], size[1]),
            preprocess=preprocess,
            sample_rate=timeline.sample_rate if choice.modality == "audio" else None,
        )

    def load(self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str) -> Backbone:
        """Loads the model in torch."""
        from avpipe.stages.backbones.timm_vit import TimmVit

        return TimmVit(choice, facts, taps, device)


def _normalisation(choice: BackboneChoice, entry: dict[str, Any], tag: str) -> dict[str, Any]:
    """Channel mean and deviation that the weights were trained with (0..1 scale)."""
    known = entry["tags"].get(tag or entry["default_tag"], entry) if choice.weights == "pretrained" or tag else entry
    return {"mean": known["mean"], "std": known["std"]}


def _front_end(timeline: Timeline) -> dict[str, Any]:
    return LOGMEL | {"sample_rate": timeline.sample_rate}


def _mel_size(choice: BackboneChoice, timeline: Timeline, patch_h: int, patch_w: int) -> tuple[int, int]:
    """Mel bands and frames, cut to whole patches."""
    if choice.image_size:
        raise UsageError(f"image_size is for the visual backbone; the input of {choice.model} on audio is fixed")
    frames = 1 + (timeline.samples_per_segment - LOGMEL["n_fft"]) // LOGMEL["hop"]
    size = (LOGMEL["mels"] // patch_h * patch_h, frames // patch_w * patch_w)
    if min(size) <= 0:
        raise UsageError(f"a segment of {timeline.segment_seconds} s is too short for the patches of {choice.model}")
    return size
