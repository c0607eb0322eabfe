"""timm's models as a family: facts from a table that ships with avpipe, so that nothing imports torch to plan.

Which models: see `timm_table.KINDS`. A tap is the output of one block, called as timm calls the block: `blocks.7` in a
ViT, `layers.2.blocks.17` in a Swin. Tokens come raw: before the next normalisation, with prefix tokens in front; the
rows of Swin's grid follow one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import checkpoints, demo_weights, timm_audio
from avpipe.stages.backbones.contract import Backbone, BackboneChoice, BackboneFacts
from avpipe.stages.backbones.precision import precision_of
from avpipe.stages.backbones.timm_table import Entry, Normalisation, table

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk


@cache
def entries() -> Mapping[str, Entry]:
    """Every model of the family: those of timm's own list, and those of sound that only its hub has."""
    return {**table(), **timm_audio.MODELS}


class TimmFamily:
    """Vision transformers of timm: ViT, DeiT, CLIP, DINOv2, SigLIP; EVA, DINOv3; Swin, Swin-V2."""

    libraries = ("torch", "timm", "pillow")

    def names(self) -> list[str]:
        """Architecture names."""
        return list(entries())

    def tags(self, model: str) -> tuple[str, ...]:
        """Tags of a model's weights on timm's hub."""
        entry = entries()[model]
        return tuple(sorted(entry.tags, key=lambda tag: tag != entry.default_tag))  # the rest as they come

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts from the table; frames are squashed to the input size, sound becomes a picture.

        Raises:
            UsageError: weights, input size, precision or front end that the model cannot have.
        """
        architecture, _, tag = choice.model.partition(".")
        entry = entries().get(architecture)
        if entry is None:
            return None
        if tag and tag not in entry.tags:
            raise unknown_name(f"weights tag of {architecture}", tag, entry.tags)
        if choice.modality == "audio":
            return timm_audio.audio_facts(choice, timeline, entry)
        if entry.channels != 3:
            raise UsageError(f"{architecture} hears pictures of sound, it takes no frames: give it with --audio")
        size = (choice.image_size, choice.image_size) if choice.image_size else entry.image
        entry.check(choice.model, size)
        mean, std = _normalisation(choice, entry, tag)
        return BackboneFacts(
            model=architecture,
            family="timm",
            modality="visual",
            stages=entry.stages(size),
            prefix_tokens=entry.prefix_tokens,
            input_size=size,
            preprocess={"mean": list(mean), "std": list(std)},
            precision=precision_of(choice),
        )

    def check_weights(self, choice: BackboneChoice, facts: BackboneFacts) -> None:
        """Refuses weights that are known to be lacking; imports timm where they are the hub's."""
        if choice.weights == "pretrained":
            from avpipe.stages.backbones.timm_hub import check_pretrained

            check_pretrained(choice, entries()[facts.model])
        elif choice.seed is None and choice.weights != demo_weights.KEYWORD:
            checkpoints.check_file(Path(choice.weights), choice)

    def load(
        self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str, compiled: bool = False
    ) -> Backbone:
        """Loads the model in torch."""
        from avpipe.stages.backbones.timm_model import TimmModel

        return TimmModel(choice, facts, entries()[facts.model], taps, device, compiled)

    def trunk(self, choice: BackboneChoice, facts: BackboneFacts, first: str, last: str, device: str) -> Trunk:
        """Loads blocks of the model in torch."""
        from avpipe.stages.backbones.devices import torch_device
        from avpipe.stages.backbones.timm_trunk import TimmTrunk

        return TimmTrunk(choice, facts, entries()[facts.model], first, last, torch_device(device))


def _normalisation(choice: BackboneChoice, entry: Entry, tag: str) -> Normalisation:
    """Channel mean and deviation that the weights were trained with (0..1 scale)."""
    if tag:
        return entry.tags[tag]
    return entry.tags.get(entry.default_tag, entry.norm) if choice.weights == "pretrained" else entry.norm
