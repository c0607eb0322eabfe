"""What kind of run a report is about, in words: its stage, what it injects where, and what it started from."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.errors import AvpipeError
from avpipe.stages import checkpoint, runs
from avpipe.stages.backbones.trunk import key
from avpipe.stages.config import MASK_TASKS
from avpipe.stages.runs import RunConfig

SEGMENT_SETTINGS = ("stage", "inject", "inject_at")
"""Settings that `in_words` has said of a run of stage `segment`."""


def in_words(config: RunConfig) -> str:
    """Such as `segment, inject=rerun, inject_at=stages, from 20260102-distill`."""
    if config.model.adapted:
        return "adapters inside both backbones, trained end to end"
    if config.train.stage != "segment" or config.model.task not in MASK_TASKS:
        return config.train.stage
    inject = config.train.inject
    where = [] if inject == "none" else [f"inject_at={config.train.inject_at}"]
    start = f"from {Path(config.start['run']).name}" if config.start else "from fresh weights"
    return ", ".join([config.train.stage, f"inject={inject}", *where, start])


def gates(run: Path, config: RunConfig) -> str:
    """Mean absolute gate of each injection in the best checkpoint, such as `blocks.3 0.012, blocks.6 0.034`; or ""."""
    if not config.model.injected:
        return ""
    try:
        weights = checkpoint.read_weights(run / runs.BEST)
    except AvpipeError:
        return ""
    names = {block: f"injections.{key(block)}.gate" for block in config.model.injected}
    means = {block: float(weights[name].abs().mean()) for block, name in names.items() if name in weights}
    return ", ".join(f"{block} {mean:.3g}" for block, mean in means.items())


def resumed_in_words(config: RunConfig) -> str:
    """What the tap stands for from which the backbone runs again, as a sentence for the table of layers; or ""."""
    if config.train.inject != "rerun" or not config.model.injected:
        return ""
    first = next(iter(config.model.injected))
    if not config.model.resume:
        return " The visual backbone runs again from its first block on: the frames stand for all of its layers."
    return (
        f" The visual backbone runs again from {first} on: {config.model.resume}, from which it goes on, stands for "
        "all later layers too, but for what is distilled of the top one."
    )
