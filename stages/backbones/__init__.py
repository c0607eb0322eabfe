"""Frozen backbones: a registry of families, each known without torch and loaded on demand.

A new family is one file: subclass nothing, implement `Family`, and add it to `FAMILIES`.
"""

from __future__ import annotations

from avpipe.pipeline.errors import unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import demo_weights
from avpipe.stages.backbones.contract import MODALITIES, Backbone, BackboneChoice, BackboneFacts, Family, Stage, grid_of
from avpipe.stages.backbones.htsat import HtsatFamily
from avpipe.stages.backbones.layers import select_taps
from avpipe.stages.backbones.stub import StubFamily
from avpipe.stages.backbones.timm_family import TimmFamily

__all__ = [
    "MODALITIES",
    "Backbone",
    "BackboneChoice",
    "BackboneFacts",
    "Stage",
    "check_weights",
    "facts_of",
    "grid_of",
    "libraries_of",
    "load",
    "model_names",
    "select_taps",
    "weights_for",
]

FAMILIES: dict[str, Family] = {"timm": TimmFamily(), "htsat": HtsatFamily(), "stub": StubFamily()}


def model_names() -> list[str]:
    """Names of every model that can be chosen, sorted."""
    return sorted(name for family in FAMILIES.values() for name in family.names())


def facts_of(choice: BackboneChoice, timeline: Timeline) -> BackboneFacts:
    """What is known of the chosen backbone without loading it; imports no torch.

    Raises:
        UsageError: no family knows the model; the nearest name is offered.
    """
    for family in FAMILIES.values():
        facts = family.facts(choice, timeline)
        if facts is not None:
            return facts
    raise unknown_name("model", choice.model, model_names(), listing="`avpipe backbones ls` lists them", cutoff=0.8)


def weights_for(model: str) -> list[str]:
    """What a model's weights can be beside a file: `pretrained` where a hub has them, `demo`, `random:SEED`."""
    architecture = model.partition(".")[0]
    on_hub = any(family.tags(architecture) for family in FAMILIES.values() if architecture in family.names())
    words = {"pretrained": on_hub, demo_weights.KEYWORD: architecture == demo_weights.MODEL, "random:SEED": True}
    return [word for word, fits in words.items() if fits]


def check_weights(choice: BackboneChoice, facts: BackboneFacts) -> None:
    """Refuses, within seconds, weights that are known to be lacking; see `Family.check_weights`."""
    FAMILIES[facts.family].check_weights(choice, facts)


def load(
    choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str = "auto", compiled: bool = False
) -> Backbone:
    """Loads the chosen backbone, frozen, ready to give these taps; `compiled`: through `torch.compile`."""
    return FAMILIES[facts.family].load(choice, facts, taps, device, compiled)


def libraries_of(facts: BackboneFacts) -> tuple[str, ...]:
    """Packages whose versions are provenance of what this backbone computes."""
    return FAMILIES[facts.family].libraries
