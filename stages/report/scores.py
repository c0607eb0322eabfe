"""The table of scores: this run, other runs on the same features, and answers that ignore their input."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.effect import in_effect
from avpipe.stages.metrics import llp
from avpipe.stages.report.kind import SEGMENT_SETTINGS, in_words
from avpipe.stages.report.scored import is_scored, read_metrics
from avpipe.stages.report.sources import Sources
from avpipe.stages.runs import RunConfig

MAIN = {"events": "accuracy", "parsing": "segment_type_av", "segmentation": "miou", "semantic": "miou"}
METRICS = {
    "events": ("accuracy",),
    "parsing": tuple(llp.METRICS),
    "segmentation": ("miou", "fscore"),
    "semantic": ("miou", "fscore", "miou_over_seen", "fscore_over_seen"),
}
SHOWN_DIFFERENCES = 4
"""Settings that the label of another run names at most."""


def tables(sources: Sources, beside: Sequence[Path] | None) -> tuple[dict[str, Any], list[str]]:
    """The scores by protocol, the official one first, and notes on what was left out.

    Args:
        sources: the run.
        beside: other runs; None: every run in the same folder that has the same features.

    Returns:
        `main` (the metric that counts), `protocols` (each `name`, `metrics`, `rows`); and the notes. Rows of runs that
        differ in nothing but the seed have the same `group`.

    Raises:
        UsageError: a run in `beside` cannot be shown beside this one.
    """
    others, notes = _named(sources, beside) if beside is not None else _siblings(sources)
    ours = [_row("this", _label(sources.config, sources.config), sources.config, sources.run, sources.metrics)]
    ours += [_row("run", _label(config, sources.config), config, run, metrics) for run, config, metrics in others]
    notes = [*notes, *_shared_starts(ours, [sources.config, *(config for _, config, _ in others)])]
    names = [sources.metrics["protocol"], *sources.metrics.get("other_protocols", {})]
    metrics = METRICS[sources.config.model.task]
    protocols = []
    for name in names:
        constants = [
            {
                **{"label": key.replace("_", " "), "kind": "constant", "group": None, "seed": None, "run": None},
                "scores": scores,
            }
            for key, scores in sources.metrics["baselines"].items()
        ]
        rows = [_values(row, name, sources.metrics["protocol"], metrics) for row in (*ours, *constants)]
        protocols.append({"name": name, "metrics": list(metrics), "rows": [row for row in rows if row is not None]})
    return {"main": MAIN[sources.config.model.task], "protocols": protocols}, notes


Other = tuple[Path, RunConfig, dict[str, Any]]


def check_named(run: Path, split: str, beside: Sequence[Path]) -> None:
    """Refuses other runs for what can be seen without opening features.

    Raises:
        UsageError: one is no run, or is on another dataset, or is not scored.
    """
    dataset = RunConfig.load(run).dataset
    for other in beside:
        if other.resolve() == run.resolve():
            continue
        if why := _unfit(RunConfig.load(other).dataset, dataset, other, split):
            raise UsageError(f"--beside {other} cannot be shown: {why}")


def _row(kind: str, label: str, config: RunConfig, run: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    scores = {**metrics["metrics"], "other_protocols": metrics.get("other_protocols", {})}
    return {
        **{"label": label, "kind": kind, "group": _group(config, run), "seed": config.train.seed},
        **{"run": run.resolve().name, "scores": scores},
    }


def _group(config: RunConfig, run: Path) -> str:
    """The same for runs on the same features that differ in nothing but the seed."""
    settings = {**in_effect(config.train, config.model.task), "seed": None}
    features = runs.recorded_environment(run).get("content_hash")
    known = [config.dataset, settings, bool(config.start), config.model.to_dict(), features]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _shared_starts(rows: Sequence[Mapping[str, Any]], configs: Sequence[RunConfig]) -> list[str]:
    """Notes on runs that look like seeds of one another, but go on from the same weights."""
    sharing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row, config in zip(rows, configs, strict=True):
        if config.start:
            sharing[row["group"], config.start["sha256"]].append(row["run"])
    return [
        f"{' and '.join(names)} start from the weights of one distill run: their seeds are not independent, and differ "
        "by less than those of runs with a distill run each."
        for names in sharing.values()
        if len(names) > 1
    ]


def _values(row: Mapping[str, Any], protocol: str, official: str, metrics: Sequence[str]) -> dict[str, Any] | None:
    """A row with its values by one protocol; None where it was not scored by that one."""
    scores = row["scores"] if protocol == official else row["scores"].get("other_protocols", {}).get(protocol)
    if scores is None:
        return None
    return {
        **{key: row[key] for key in ("label", "kind", "group", "seed", "run")},
        "values": {m: scores.get(m) for m in metrics},
    }


def _label(config: RunConfig, ours: RunConfig) -> str:
    """Method and modality, what a run of stage segment injects, and the settings in which it differs from ours.

    Of the settings only the first few are named, and how many more there are; those that change nothing in that run
    are left out.
    """
    segment = config.train.stage == "segment"
    said_elsewhere = SEGMENT_SETTINGS if segment else ("stage",) if config.model.adapted else ()
    ignored = ("method", "modality", "seed", *said_elsewhere)
    theirs, own = in_effect(config.train, config.model.task), ours.train.to_dict()
    other = [f"{key}={value}" for key, value in theirs.items() if key not in ignored and own[key] != value]
    more = len(other) - SHOWN_DIFFERENCES
    shown = other[:SHOWN_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
    said = [in_words(config)] if segment else []
    return ", ".join([f"{config.train.method} ({config.train.modality})", *said, *shown])


def _named(sources: Sources, beside: Sequence[Path]) -> tuple[list[Other], list[str]]:
    """The runs that the user named; one that cannot be shown is an error."""
    found, foreign, notes = [], [], []
    for run in dict.fromkeys(beside):
        if run.resolve() == sources.run.resolve():
            notes.append(f"--beside {run} is the run itself, so it is not shown again.")
            continue
        config = RunConfig.load(run)
        if why := _not_comparable(sources, run, config):
            raise UsageError(f"--beside {run} cannot be shown: {why}")
        if not _same_features(sources, run):
            foreign.append(run.resolve().name)
        found.append((run, config, read_metrics(run, sources.split)))
    if foreign:
        notes.append(f"On other features than this run: {', '.join(foreign)}.")
    return found, notes


def _siblings(sources: Sources) -> tuple[list[Other], list[str]]:
    """The runs in the same folder, on the same dataset, that can be compared; a note on those that cannot."""
    found: list[Other] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    own = sources.run.resolve()
    for run in sorted(path.parent for path in own.parent.glob(f"*/{runs.CONFIG}")):
        if run == own:
            continue
        try:
            config = RunConfig.load(run)
            if config.dataset != sources.config.dataset:
                continue
            why = _not_comparable(sources, run, config)
            if not why and not _same_features(sources, run):
                why = "trained on other features, or on the cache before it changed"
            if not why:
                found.append((run, config, read_metrics(run, sources.split)))
        except runs.EarlierDecoder:
            why = "made by an earlier version, with another mask decoder"
        except UsageError:
            why = "cannot be read"
        if why:
            left_out[why].append(run.name)
    return found, [f"Not shown beside this run: {', '.join(names)} ({why})." for why, names in left_out.items()]


def _not_comparable(sources: Sources, run: Path, config: RunConfig) -> str:
    """Why a run's scores say nothing beside ours; empty where they do."""
    if why := _unfit(config.dataset, sources.config.dataset, run, sources.split):
        return why
    metrics = read_metrics(run, sources.split)
    if metrics.get("protocol") != sources.metrics["protocol"]:
        return f"scored by protocol {metrics.get('protocol')}"
    if metrics.get("samples") != sources.metrics["samples"]:
        return f"scored on {metrics.get('samples')} samples, not on {sources.metrics['samples']}"
    return ""


def _unfit(dataset: str, ours: str, run: Path, split: str) -> str:
    """The part of `_not_comparable` that needs nothing of our own scores."""
    if dataset != ours:
        return f"it is on {dataset}, this run is on {ours}"
    if not (run / runs.BEST).is_file() and not (run / runs.EPOCHS).is_file():
        return "it has no finished epoch"
    if not (run / runs.BEST).is_file():
        return f"its {runs.BEST} is missing"
    if not is_scored(run, split):
        return f"not scored on {split} since it was trained; `avpipe evaluate` does that"
    return ""


def _same_features(sources: Sources, run: Path) -> bool:
    content = runs.recorded_environment(run).get("content_hash")
    return content is not None and content == sources.environment.get("content_hash")
