"""What a run has cost: seconds, bytes and memory, stage by stage."""

from __future__ import annotations

from typing import Any

from avpipe.pipeline.cache import Cache, progress_of
from avpipe.stages.report.caveats import counted
from avpipe.stages.report.sources import Sources

WORK = {
    "decode": "decoding, in processes of its own beside the rest",
    "read": "reading stored frames and samples, beside the rest",
    "wait": "the backbones' waiting for decoded clips",
    "backbone": "the frozen backbones",
    "encode": "storage types and statistics, beside the rest",
    "write": "writing, beside the rest",
    "commit": "syncing to disk, beside the rest",
    "import": "reading released features, writing and committing",
}
"""Kinds of work that the records of a cache count, see `stage_clock.STAGES`."""


def rows(sources: Sources, parameters: int, spent: dict[str, float]) -> list[dict[str, Any]]:
    """Every cost as `group`, `name`, `value`, `unit`, `note`.

    Args:
        sources: the run and its data.
        parameters: trainable parameters of the model.
        spent: seconds of the parts of this report, by name.
    """
    found = _extraction(sources.cache) + _cache(sources.cache) if sources.cache else []
    found += _training(sources, parameters)
    found.append(_cost("evaluation", "predicting and scoring", sources.metrics["seconds"], "s", sources.split))
    return found + [_cost("report", name, round(seconds, 3), "s") for name, seconds in spent.items()]


def _extraction(cache: Cache) -> list[dict[str, Any]]:
    state = progress_of(cache.path)
    work = state["work_seconds"]
    found = [_cost("extraction", "clips", state["clips"]["done"], "", _how(cache))]
    found += [_cost("extraction", kind, round(work[kind], 3), "s", WORK.get(kind, "")) for kind in sorted(work)]
    if state["segments_per_second"] is not None:
        rate = round(state["segments_per_second"], 2)
        found.append(_cost("extraction", "segments per second", rate, "", "over the last units"))
    return found


def _how(cache: Cache) -> str:
    """Where the features of a cache come from."""
    imported = [modality for modality, spec in sorted(cache.specs.items()) if spec.imported]
    if imported:
        return f"{' and '.join(imported)} features were imported as others have released them"
    return "each decoded and run through the backbones once"


def _cache(cache: Cache) -> list[dict[str, Any]]:
    summary = cache.summary()
    found = [
        _cost(
            "cache",
            name,
            array["bytes"],
            "bytes",
            f"{array['dtype']}, rows of {' x '.join(map(str, array['shape'][1:]))}",
        )
        for name, array in summary["arrays"].items()
    ]
    found.append(_cost("cache", "all arrays", summary["bytes"], "bytes", counted(summary["clips"], "clip")))
    if summary["clips"]:
        found.append(_cost("cache", "per clip", round(summary["bytes"] / summary["clips"]), "bytes", "mean"))
    return found


def _training(sources: Sources, parameters: int) -> list[dict[str, Any]]:
    epochs = sources.epochs
    found = [_cost("training", "trainable parameters", parameters, "")]
    if not epochs:
        return found
    found.append(_cost("training", "epochs", len(epochs), "", f"the one scored: {sources.metrics['epoch']}"))
    for key, name in (("train_seconds", "steps"), ("val_seconds", "validation")):
        found.append(
            _cost("training", name, round(sum(record.get(key) or 0 for record in epochs), 3), "s", "all epochs")
        )
    device = sources.environment.get("device_name") or sources.environment.get("device", "")
    for key, name in (("peak_rss_mib", "peak memory"), ("peak_gpu_mib", "peak GPU memory")):
        known = [record[key] for record in epochs if record.get(key) is not None]
        if known:
            note = "of the process, features in memory included" if key == "peak_rss_mib" else str(device)
            found.append(_cost("training", name, max(known), "MiB", note))
    return found


def _cost(group: str, name: str, value: float, unit: str, note: str = "") -> dict[str, Any]:
    return {"group": group, "name": name, "value": value, "unit": unit, "note": note}
