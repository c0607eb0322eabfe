"""From which weights `--stage segment` starts: distiller and decoder of a `distill` run, where there is one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from avpipe.pipeline import progress
from avpipe.pipeline.errors import CorruptionFound, UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.effect import in_effect
from avpipe.stages.model import ModelSpec, build_model
from avpipe.stages.runs import RunConfig

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache

NONE = "none"
FRESH = "injections."
"""What the names of parameters begin with that no distill run has."""
_DECIDES = ("method", "modality", "meta_tokens", "heads", "rank", "width", "branches", "adapt", "gate", "share", "head")
"""Settings that decide what a distiller's and a decoder's weights mean."""


def find_start(wanted: str | None, beside: Path, config: RunConfig, cache: Cache) -> Path | None:
    """The run to start from, said in a line; None for fresh weights.

    Args:
        wanted: a run folder, `none`, or None: the newest run in `beside` that is finished, used this very cache folder
            and fits.
        beside: folder in which runs lie.
        config: the new run.
        cache: its features.

    Raises:
        UsageError: the run that was named does not fit; says why.
    """
    if wanted == NONE:
        progress.say("start: fresh weights, as asked for")
        return None
    if wanted is not None and (why := _misfit(Path(wanted), config, cache)):
        raise UsageError(f"--start {wanted}: {why}; name another run, or --start none")
    found, why = (Path(wanted), "") if wanted is not None else _newest(beside, config, cache)
    if found is None:
        progress.say(
            f"start: fresh weights, of distiller and decoder too, as {why}; `--stage distill` trains them, --start "
            "names a run elsewhere"
        )
    else:
        progress.say(f"start: distiller and decoder as {found} left them")
    return found


def adopt(start: Path, run: Path) -> dict[str, str]:
    """Copies the weights into the new run's folder, so that it can begin again without the other; what to note."""
    content = (start / runs.BEST).read_bytes()
    checkpoint.write_atomic(run / runs.START, content)
    return {"run": str(start.resolve()), "sha256": hashlib.sha256(content).hexdigest()}


def load_start(model: nn.Module, run: Path, config: RunConfig) -> None:
    """Puts the weights that a run starts from into its new model; without a start it does nothing.

    Raises:
        CorruptionFound: they are not those that were copied, or do not fit any more.
    """
    if not config.start:
        return
    path = run / runs.START
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != config.start["sha256"]:
        raise CorruptionFound(f"{path} is not what the run started from: copy it from {config.start['run']} again")
    weights = checkpoint.read_weights(path)
    if why := _other_weights(model, weights):
        raise CorruptionFound(f"{path} does not fit the model of its run ({why}): train again")
    model.load_state_dict(weights, strict=False)


def _newest(beside: Path, config: RunConfig, cache: Cache) -> tuple[Path | None, str]:
    """The newest run that fits; or why there is none, from the newest that nearly does."""
    found = [path.parent for path in beside.glob(f"*/{runs.BEST}") if _candidate(path.parent, config)]
    reasons = []
    for run in sorted(found, key=lambda run: ((run / runs.BEST).stat().st_mtime_ns, run.name), reverse=True):
        why = _misfit(run, config, cache)
        if not why:
            return run, ""
        reasons.append(f"{run} does not fit: {why}")
    return None, reasons[0] if reasons else f"{beside} has no finished distill run of {config.dataset} on this cache"


def _candidate(run: Path, config: RunConfig) -> bool:
    """Whether a folder holds a finished distill run on the same data: another cache may have other clips for test."""
    try:
        other = RunConfig.load(run)
        done = len((run / runs.EPOCHS).read_text(encoding="utf-8").splitlines())
    except (UsageError, OSError):
        return False
    same = (other.train.stage, other.dataset, other.cache) == ("distill", config.dataset, config.cache)
    return same and done >= other.train.epochs


def _misfit(run: Path, config: RunConfig, cache: Cache) -> str:
    """Why a run cannot be started from; "" where it can.

    Raises:
        UsageError: it is no run, or it has no checkpoint.
    """
    other, known = RunConfig.load(run), runs.recorded_environment(run)["fingerprints"]
    ours, theirs = _deciding(config), _deciding(other)
    if other.train.stage != "distill":
        return f"it is a run of stage {other.train.stage}, not of distill"
    if other.dataset != config.dataset:
        return f"it is on {other.dataset}, not on {config.dataset}"
    for key in _DECIDES:
        if ours[key] != theirs[key]:
            return f"it has {key}={theirs[key]}, not {ours[key]}"
    if other.train.select == "test" and config.train.select != "test":
        return "its epoch was chosen on test (select=test), and scores after it would not say so"
    for modality in config.train.modalities:
        if cache.specs[modality].fingerprint != known.get(modality):
            return f"its {modality} features came from another backbone or preprocessing"
    if why := _other_model(other.model, config.model):
        return why
    return _other_weights(build_model(config.model, config.train), checkpoint.read_weights(run / runs.BEST))


def _deciding(config: RunConfig) -> dict[str, Any]:
    """Settings that decide what weights of distiller and decoder mean; None for those that change nothing there."""
    distilling = in_effect(replace(config.train, stage="distill"), config.model.task)
    return {key: distilling.get(key) for key in _DECIDES}


def _other_model(theirs: ModelSpec, ours: ModelSpec) -> str:
    """In what two models differ besides injections."""
    for modality, taps in ours.shapes.items():
        if dict(theirs.shapes.get(modality, {})) != dict(taps):
            held = ", ".join(theirs.shapes.get(modality, {}))
            return f"it was trained on {modality} layers {held}, this one is on {', '.join(taps)} (see taps=)"
    if replace(theirs, injected={}, resume="") != replace(ours, injected={}, resume=""):
        return "it has other classes, or masks of another size"
    return ""


def _other_weights(model: nn.Module, weights: dict[str, Tensor]) -> str:
    """In what weights differ from those that a model has; those of injections may lack."""
    shapes = {name: value.shape for name, value in model.state_dict().items() if not name.startswith(FRESH)}
    for name in sorted(shapes.keys() | weights.keys()):
        if name not in shapes or name not in weights or shapes[name] != weights[name].shape:
            return f"its weights {name} are not those of this version's model: train it again"
    return ""
