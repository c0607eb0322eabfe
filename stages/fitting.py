"""Whether the weights of an earlier run fit a new one, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from avpipe.stages import checkpoint, runs
from avpipe.stages.effect import in_effect
from avpipe.stages.model import ModelSpec, build_model
from avpipe.stages.runs import RunConfig
from avpipe.stages.seen import Seen, other_split, read_samples, seen_before

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache

FRESH = "injections."
"""What the names of parameters begin with that no distill run has."""
_DECIDES = ("method", "modality", "meta_tokens", "heads", "rank", "width", "branches", "adapt", "gate", "share", "head")
"""Settings that decide what a distiller's and a decoder's weights mean."""


def misfit(run: Path, config: RunConfig, samples: Seen, cache: Cache, *, named: bool) -> str:
    """Why a new run cannot start from an earlier one; "" where it can.

    Args:
        run: folder of the earlier run.
        config: the new run.
        samples: its samples, by split.
        cache: its features.
        named: the user named the run. Then samples need not be the same, as long as none that is held out now had a
            part in the weights.

    Raises:
        UsageError: it is no run, a file of it cannot be read, or it has no checkpoint.
        CorruptionFound: its checkpoint is damaged.
    """
    other = RunConfig.load(run)
    return (
        _other_training(run, other, config, cache)
        or _other_samples(run, other, config, samples, named=named)
        or _other_model(other.model, config.model)
        or other_weights(build_model(config.model, config.train), checkpoint.read_weights(run / runs.BEST))
    )


def other_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """In what weights differ from those that a model has; those of injections may lack."""
    shapes = {name: value.shape for name, value in model.state_dict().items() if not name.startswith(FRESH)}
    for name in sorted(shapes.keys() | weights.keys()):
        if name not in shapes or name not in weights or shapes[name] != weights[name].shape:
            return f"its weights {name} are not those of this version's model: train it again"
    return ""


def _other_training(run: Path, other: RunConfig, config: RunConfig, cache: Cache) -> str:
    """In what an earlier run was trained otherwise, so that its weights mean something else."""
    if other.train.stage != "distill":
        return f"it is a run of stage {other.train.stage}, not of distill"
    if other.dataset != config.dataset:
        return f"it is on {other.dataset}, not on {config.dataset}"
    ours, theirs = _deciding(config), _deciding(other)
    for key in _DECIDES:
        if ours[key] != theirs[key]:
            return f"it has {key}={theirs[key]}, not {ours[key]}"
    if other.train.select == "test" and config.train.select != "test":
        return "its epoch was chosen on test (select=test), and scores after it would not say so"
    known = runs.recorded_environment(run).get("fingerprints", {})
    for modality in config.train.modalities:
        if cache.specs[modality].fingerprint != known.get(modality):
            return f"its {modality} features came from another backbone or preprocessing"
    return ""


def _other_samples(run: Path, other: RunConfig, config: RunConfig, now: Seen, *, named: bool) -> str:
    """Why the samples of an earlier run forbid to start from it."""
    then = read_samples(run)
    if then is None:
        return "" if named else f"it has no {runs.SAMPLES}, so nothing says which samples it was trained on"
    if why := seen_before(then, other.train.select, now, config.train.select):
        return why
    if named:
        return ""
    if other.options != config.options:
        return "its dataset was read with other settings"
    return other_split(then, now)


def _deciding(config: RunConfig) -> dict[str, Any]:
    """Settings that decide what weights of distiller and decoder mean; None for those that change nothing there."""
    distilling = in_effect(replace(config.train, stage="distill"), config.model.task)
    return {key: distilling.get(key) for key in _DECIDES}


def _other_model(theirs: ModelSpec, ours: ModelSpec) -> str:
    """In what two models differ besides injections."""
    for modality, taps in ours.shapes.items():
        if dict(theirs.shapes.get(modality, {})) != dict(taps):
            named = ",".join(f"{each}/{tap}" for each, held in theirs.shapes.items() for tap in held)
            return (
                f"it was trained on {modality} layers {', '.join(theirs.shapes.get(modality, {}))}, this one is on "
                f"{', '.join(taps)} (taps={named} names its layers)"
            )
    if replace(theirs, injected={}, resume="") != replace(ours, injected={}, resume=""):
        return "it has other classes, or masks of another size"
    return ""
