"""The very backbone that a cache's features came from, opened again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.cache import Spec
from avpipe.pipeline.errors import CacheMismatch, EnvironmentLacking, UsageError
from avpipe.stages.backbones import FAMILIES, demo_weights
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk


def facts_of_cache(spec: Spec) -> BackboneFacts:
    """What is known of the backbone of a cache's modality; imports no torch.

    Raises:
        UsageError: the features were imported.
    """
    if spec.imported:
        raise UsageError(
            f"the {spec.modality} features were imported: no backbone here can go on from them; run `avpipe extract` "
            "into another cache"
        )
    return BackboneFacts.from_fields(spec.fields["backbone"])


def open_trunk(spec: Spec, *, first: str = "", last: str = "", device: str = "auto") -> Trunk:
    """Blocks of the backbone that made a cache's features.

    Args:
        spec: of the modality, from the cache.
        first, last: names of blocks; default: the backbone's first and last.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: the features were imported, or hold segments that are bins of longer windows.
        EnvironmentLacking: its weights cannot be had here.
        CacheMismatch: the weights that are found now are not those of the features.
    """
    facts, choice = facts_of_cache(spec), BackboneChoice.from_request(spec.request)
    _refuse_windows(facts)
    _require_file(choice, spec.fields["weights"]["sha256"])
    every = tuple(facts.taps)
    trunk = FAMILIES[facts.family].trunk(choice, facts, first or every[0], last or every[-1], device)
    made_with = spec.fields["weights"]["sha256"]
    if trunk.weights_sha256 != made_with:
        raise CacheMismatch(
            f"the {spec.modality} features were made with weights {made_with[:12]}, {choice.weights} of {choice.model} "
            f"now gives {trunk.weights_sha256[:12]}: put those weights back, or extract into another cache"
        )
    return trunk


def _require_file(choice: BackboneChoice, made_with: str) -> None:
    """Says it in words that fit where a weights file is gone: no option of training names another one."""
    if choice.weights in ("pretrained", demo_weights.KEYWORD) or choice.seed is not None:
        return
    if not Path(choice.weights).exists():
        raise EnvironmentLacking(
            f"the {choice.modality} features were made with weights {choice.weights} of {choice.model}, which is gone: "
            f"put that file back there (sha256 of its tensors {made_with}; other weights are refused)"
        )


def _refuse_windows(facts: BackboneFacts) -> None:
    """Refuses taps that are means over columns of the model's grid: no block can go on from those."""
    if facts.preprocess.get("window", {}).get("kind") == "clip":
        raise UsageError(
            f"{facts.model} heard whole clips (--audio-window clip) when this cache was made: what it stores of a "
            "segment is a mean over the model's own grid, from which no block can go on; extract with "
            "--audio-window segment into another cache"
        )
