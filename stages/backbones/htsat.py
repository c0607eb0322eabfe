"""HTS-AT as a family: the AudioSet model at 32 kHz and the two that CLAP trained at 48 kHz. Imports no torch.

Published (K. Chen et al., HTS-AT, ICASSP 2022, and its code): 64 mel bands; 10 s of sound as 1024 frames, folded into a
square picture of 256 x 256 in which 4 stretches of 2.5 s lie one below the other; patches of 4 x 4; 2, 2, 6 and 2 Swin
blocks of width 96 to 768 with windows of 8. A token's row is therefore a stretch and a frequency, its column the time
inside the stretch. Our choice: what the taps are (raw block outputs), and that CLAP's fusion of long sound is not used:
no window is longer than 10 s, and for those the fused model feeds its first channel alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import front_ends, htsat_source, windows
from avpipe.stages.backbones.contract import Backbone, BackboneChoice, BackboneFacts, Stage
from avpipe.stages.backbones.precision import precision_of

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk

STAGES = (Stage(2, 96, (64, 64)), Stage(2, 192, (32, 32)), Stage(6, 384, (16, 16)), Stage(2, 768, (8, 8)))
HEARING = windows.Hearing(seconds=10.0, chunks=4)
PICTURE = (1001, 64)
"""Frames and mel bands that the front end gives; the model stretches them to 1024 frames and folds them."""


@dataclass(frozen=True, slots=True)
class Published:
    """What sets one of the models apart.

    Attributes:
        front_end: name in `front_ends`.
        hub: repository of its weights on Hugging Face's hub; "" where there is none.
        fusion: whether its patch embedding has the parts that fuse long sound.
    """

    front_end: str
    hub: str = ""
    fusion: bool = False


MODELS = {
    "htsat": Published("htsat"),
    "clap_htsat_unfused": Published("clap", "laion/clap-htsat-unfused"),
    "clap_htsat_fused": Published("clap_fused", "laion/clap-htsat-fused", fusion=True),
}


class HtsatFamily:
    """The family of HTS-AT models; audio only."""

    libraries = ("torch", "transformers")

    def names(self) -> list[str]:
        """Model names."""
        return list(MODELS)

    def tags(self, model: str) -> tuple[str, ...]:
        """The hub's repository, for those that have one."""
        return tuple(filter(None, [MODELS[model].hub]))

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts of the model; see `windows` for what `choice.window` changes."""
        published = MODELS.get(choice.model)
        if published is None:
            return None
        if choice.modality != "audio":
            raise UsageError(f"{choice.model} is an audio backbone: give it with --audio")
        if choice.image_size:
            raise UsageError(f"image_size is for the visual backbone; the input of {choice.model} is fixed")
        if choice.front_end not in (None, published.front_end):
            raise unknown_name(f"front end of {choice.model}", str(choice.front_end), [published.front_end])
        front_end = front_ends.spec(published.front_end)
        rate = int(front_end["sample_rate"])
        plan = windows.plan(choice, HEARING, STAGES, timeline, rate)
        return BackboneFacts(
            model=choice.model,
            family="htsat",
            modality="audio",
            stages=plan.stages,
            prefix_tokens=0,
            input_size=PICTURE,
            preprocess={"front_end": front_end, "window": plan.fields},
            sample_rate=rate,
            window_segments=plan.segments,
            precision=precision_of(choice),
        )

    def check_weights(self, choice: BackboneChoice, facts: BackboneFacts) -> None:
        """Refuses weights that are known to be lacking."""
        htsat_source.check(choice, MODELS[choice.model].hub)

    def load(
        self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str, compiled: bool = False
    ) -> Backbone:
        """Loads the model in torch."""
        from avpipe.stages.backbones.htsat_model import Htsat

        return Htsat(choice, facts, taps, device, compiled)

    def trunk(self, choice: BackboneChoice, facts: BackboneFacts, first: str, last: str, device: str) -> Trunk:
        """Loads blocks of the model in torch."""
        from avpipe.stages.backbones.devices import torch_device
        from avpipe.stages.backbones.htsat_trunk import HtsatTrunk

        return HtsatTrunk(choice, facts, first, last, torch_device(device))
