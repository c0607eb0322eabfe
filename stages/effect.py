"""Which settings change nothing for a task, method or head: one table of what each belongs to."""

from __future__ import annotations

from typing import Any

from avpipe.stages.config import TrainConfig

_ADAPTS = "method=mettle with branches=both or adapt"
_SEVERAL = "method=mettle on events or parsing data"


def idle(config: TrainConfig, task: str) -> dict[str, str]:
    """Settings that change nothing with these settings on a task, and what each belongs to.

    Args:
        config: the settings.
        task: `events`, `parsing` or `segmentation`.
    """
    mettle, events = config.method == "mettle", task == "events"
    over_time = events and config.head in ("temporal", "cmbs")
    adapts = mettle and config.branches != "keep"
    several = mettle and task != "segmentation"  # of masks the top tap alone is distilled
    crossing = events and config.supervision == "weak" and config.modality == "both"
    segment = config.stage == "segment" and task in ("segmentation", "semantic")
    belongs = {
        "meta_tokens": (mettle, "method=mettle"),
        "heads": ((adapts and config.adapt == "attention") or over_time, "adapt=attention, head=temporal or cmbs"),
        "rank": (adapts, _ADAPTS),
        "branches": (mettle, "method=mettle"),
        "adapt": (adapts, _ADAPTS),
        "gate": (mettle and config.branches == "both", "method=mettle with branches=both"),
        "share": (several, _SEVERAL),
        "layer_dropout": (several, _SEVERAL),
        "supervision": (events, "events data"),
        "crossed": (crossing, "supervision=weak with both modalities"),
        "smoothing": (task == "parsing" and "visual" in config.modalities, "parsing data with the visual modality"),
        "inject": (segment, "--stage segment"),
        "inject_at": (segment and config.inject != "none", "--stage segment with inject=rerun or side"),
        "checkpointing": (segment and config.inject == "rerun", "--stage segment with inject=rerun"),
        "layers": (over_time, "head=temporal or cmbs"),
        "dropout": (not (events and config.head == "linear"), "any head but linear"),
        "dice": (task == "segmentation", "segmentation data"),
        "block_units": (config.shuffle != "full", "shuffle=block"),
    }
    return {key: owner for key, (works, owner) in belongs.items() if not works}


def in_effect(config: TrainConfig, task: str) -> dict[str, Any]:
    """The settings as plain values, without those that change nothing."""
    without = idle(config, task)
    return {key: value for key, value in config.to_dict().items() if key not in without}
