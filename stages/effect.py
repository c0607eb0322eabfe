"""Which settings change nothing for a task, method or head: one table of what each belongs to."""

from __future__ import annotations

from typing import Any

from avpipe.stages.config import MASK_TASKS, TrainConfig

_ADAPTS = "method=mettle with branches=both or adapt"
_SEVERAL = "method=mettle on events or parsing data"
_CACHED = "methods that read cached layers"


def idle(config: TrainConfig, task: str) -> dict[str, str]:
    """Settings that change nothing with these settings on a task, and what each belongs to.

    Args:
        config: the settings.
        task: `events`, `parsing`, `segmentation` or `semantic`.
    """
    mettle, lavish, events = config.method == "mettle", config.method == "lavish", task == "events"
    masks = task in MASK_TASKS
    over_time = events and config.head in ("temporal", "cmbs")
    adapts = mettle and config.branches != "keep"
    several = mettle and not masks  # of masks the top tap alone is distilled
    crossing = events and config.supervision == "weak" and config.modality == "both"
    segment = config.stage == "segment" and masks
    injecting = segment and config.inject != "none"
    belongs = {
        "meta_tokens": (mettle or lavish, "method=mettle or lavish"),
        "heads": (
            (adapts and config.adapt == "attention") or over_time or injecting,
            "adapt=attention, head=temporal or cmbs, injections",
        ),
        "rank": (adapts or lavish or injecting, f"{_ADAPTS}, or method=lavish, or injections"),
        "branches": (mettle, "method=mettle"),
        "adapt": (adapts, _ADAPTS),
        "gate": ((mettle and config.branches == "both") or injecting, "method=mettle with branches=both, injections"),
        "share": (several, _SEVERAL),
        "layer_dropout": (several, _SEVERAL),
        "supervision": (events, "events data"),
        "crossed": (crossing, "supervision=weak with both modalities"),
        "smoothing": (task == "parsing" and "visual" in config.modalities, "parsing data with the visual modality"),
        "inject": (segment, "--stage segment"),
        "inject_at": (injecting, "--stage segment with inject=rerun or side"),
        "checkpointing": (
            lavish or (segment and config.inject == "rerun"),
            "--stage segment with inject=rerun, method=lavish",
        ),
        "taps": (not lavish, _CACHED),
        "codec": (not lavish, _CACHED),
        "layers": (over_time, "head=temporal or cmbs"),
        "dropout": (not (events and config.head == "linear"), "any head but linear"),
        "dice": (masks, "segmentation or semantic data"),
        "block_units": (config.shuffle != "full", "shuffle=block"),
    }
    return {key: owner for key, (works, owner) in belongs.items() if not works}


def in_effect(config: TrainConfig, task: str) -> dict[str, Any]:
    """The settings as plain values, without those that change nothing."""
    without = idle(config, task)
    return {key: value for key, value in config.to_dict().items() if key not in without}
