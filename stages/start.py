"""From which weights `--stage segment` starts: distiller and decoder of a `distill` run, where there is one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from avpipe.pipeline import progress
from avpipe.pipeline.errors import AvpipeError, CorruptionFound, UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.fitting import misfit, other_weights
from avpipe.stages.runs import RunConfig
from avpipe.stages.seen import samples_of

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache
    from avpipe.pipeline.manifest import Dataset

NONE = "none"


def find_start(wanted: str | None, beside: Path, config: RunConfig, dataset: Dataset, cache: Cache) -> Path | None:
    """The run to start from, said in a line; None for fresh weights.

    Args:
        wanted: a run folder, `none`, or None: of the runs in `beside` that are finished, used this very cache folder,
            had the same samples and fit, the newest, of the same seed if there is one.
        beside: folder in which runs lie.
        config: the new run.
        dataset: its samples.
        cache: its features.

    Raises:
        UsageError: the run that was named does not fit; says why.
        CorruptionFound: its checkpoint is damaged.
    """
    if wanted == NONE:
        progress.say("start: fresh weights, as asked for")
        return None
    if wanted is None:
        found, why = _newest(beside, config, dataset, cache)
    else:
        found, why = _named(Path(wanted), config, dataset, cache), ""
    if found is None:
        progress.say(
            f"start: fresh weights, of distiller and decoder too, as {why}; `--stage distill` trains them, --start "
            "names a run elsewhere"
        )
    else:
        about = "; ".join(_remarks(found, config))
        progress.say(f"start: distiller and decoder as {found} left them" + (f" ({about})" if about else ""))
    return found


def adopt(start: Path, run: Path) -> dict[str, str]:
    """Copies the weights into the new run's folder, so that it can begin again without the other; what to note."""
    content = (start / runs.BEST).read_bytes()
    checkpoint.write_atomic(run / runs.START, content)
    return {"run": str(start.resolve()), "sha256": hashlib.sha256(content).hexdigest()}


def load_start(model: nn.Module, run: Path, config: RunConfig) -> None:
    """Puts the weights that a run starts from into its new model.

    Without a start it does nothing, nor where there is a checkpoint, which holds all weights.

    Raises:
        CorruptionFound: they are not those that were copied, or do not fit any more.
    """
    if not config.start or (run / runs.LAST).exists():
        return
    path, source = run / runs.START, Path(config.start["run"]) / runs.BEST
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != config.start["sha256"]:
        raise CorruptionFound(f"{path} is not what the run started from: copy {source} there, or train again")
    weights = checkpoint.read_weights(path)
    if why := other_weights(model, weights):
        raise CorruptionFound(f"{path} does not fit the model of its run ({why}): train again")
    model.load_state_dict(weights, strict=False)


def _named(run: Path, config: RunConfig, dataset: Dataset, cache: Cache) -> Path:
    """The run that the user named, if it fits."""
    try:
        why = misfit(run, config, samples_of(dataset), cache, named=True)
    except UsageError as error:
        why = str(error)
    if why:
        raise UsageError(f"--start {run}: {why}; name another run, or --start none")
    return run


def _newest(beside: Path, config: RunConfig, dataset: Dataset, cache: Cache) -> tuple[Path | None, str]:
    """The best run that fits; or why there is none, from the one that would be the best.

    A damaged one is passed by: nobody asked for it.
    """
    ranked, reasons, unread, samples = [], [], [], samples_of(dataset)
    for path in beside.glob(f"*/{runs.BEST}"):
        try:
            other = RunConfig.load(path.parent)
            if _candidate(path.parent, other, config):
                ranked.append((other.train.seed == config.train.seed, path.stat().st_mtime_ns, path.parent))
        except (AvpipeError, OSError) as error:
            unread.append(str(error))
    for _, _, run in sorted(ranked, reverse=True):
        try:
            why = misfit(run, config, samples, cache, named=False)
        except (AvpipeError, OSError) as error:
            why = str(error)
        if not why:
            return run, ""
        reasons.append(f"{run} does not fit: {why}")
    nothing = f"{beside} has no finished distill run of {config.dataset} on this cache"
    return None, [*reasons, *(f"{nothing} ({why})" for why in sorted(unread)), nothing][0]


def _candidate(run: Path, other: RunConfig, config: RunConfig) -> bool:
    """Whether a folder holds a finished distill run on the same data: another cache may have other clips for test."""
    same = (other.train.stage, other.dataset, other.cache) == ("distill", config.dataset, config.cache)
    return same and _epochs_done(run) >= other.train.epochs


def _epochs_done(run: Path) -> int:
    path = run / runs.EPOCHS
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def _remarks(run: Path, config: RunConfig) -> list[str]:
    """What the user may not expect of the run that is started from."""
    other, said = RunConfig.load(run).train, []
    if (done := _epochs_done(run)) < other.epochs:
        said.append(f"unfinished: {done} of {other.epochs} epochs")
    if other.seed != config.train.seed:
        said.append(f"its seed is {other.seed}, this run's {config.train.seed}")
    if not (run / runs.SAMPLES).is_file():
        said.append("made by an earlier version, which did not note the samples that it trained on")
    return said
