"""Everything that a report says, as one JSON-ready document. `page.render` shows it.

Keys: `format`, `title`, `made`, `avpipe`, `run`, `settings`, `spec`, `environment`, `notes`, `classes`,
`segment_seconds`, `curves`, `scores`, `confusion`, `layers`, `costs`, `clips`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError
from avpipe.stages.inference import load_trained
from avpipe.stages.model import build_model
from avpipe.stages.report import costs, samples, scores
from avpipe.stages.report.details import Planned, Viewer, lacking, plan
from avpipe.stages.report.page import FORMAT
from avpipe.stages.report.sources import Sources
from avpipe.stages.shuffle import passes, shuffle_costs
from avpipe.stages.train_inputs import choose_device

MEASURES = {
    "accuracy": "Segment accuracy",
    "miou": "Mean IoU over all annotated frames (the validation score; the official one averages over batches)",
}
EXCHANGE_SEED = 0


@dataclass(frozen=True)
class Document:
    """A report without its details, and what these are made with.

    Attributes:
        data: JSON-ready.
        planned: details to come.
        viewer: what they are computed with.
    """

    data: dict[str, Any]
    planned: list[Planned]
    viewer: Viewer


def build(sources: Sources, *, clips: int, beside: Sequence[Path] | None, device: str) -> Document:
    """Puts the document together.

    Args:
        sources: the run and its data.
        clips: how many clips get a detail.
        beside: other runs; see `scores.tables`.
        device: where the model computes.
    """
    config = sources.config
    task = config.build_task(sources.samples)
    viewer = _viewer(sources, task, device)
    parameters = sum(p.numel() for p in build_model(config.model, config.train).parameters() if p.requires_grad)
    table, left_out = scores.tables(sources, beside)
    entries, order = samples.rows(sources, task)
    planned, media_notes = plan(sources, order, samples.choose(entries, clips))
    for one in planned:
        entries[one.place]["detail"] = True
    begun = time.perf_counter()
    layers, layer_notes = _layers(sources, viewer)
    spent = {"importance of layers": time.perf_counter() - begun} if layers else {}
    data = {
        "format": FORMAT,
        "title": sources.run.resolve().name,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "avpipe": version("avpipe"),
        "run": _run(sources, parameters),
        "settings": config.train.to_dict(),
        "spec": _spec(sources),
        "environment": sources.environment,
        "notes": [*_caveats(sources), *sources.notes, *lacking(sources.cache), *media_notes, *layer_notes, *left_out],
        "classes": list(config.classes),
        "segment_seconds": sources.dataset.timeline.segment_seconds if sources.dataset else 1.0,
        "curves": {"score": f"val_{task.metric}", "epochs": sources.epochs},
        "scores": table,
        "confusion": samples.confusion(sources, task) if sources.samples else None,
        "layers": layers,
        "costs": costs.rows(sources, parameters, spent),
        "clips": entries,
    }
    plain: dict[str, Any] = finite(data)
    return Document(plain, planned, viewer)


def finite(value: Any) -> Any:
    """The value with tuples as lists and with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _viewer(sources: Sources, task: Any, device: str) -> Viewer:
    """The trained model and the features of the split, where there are any."""
    target = choose_device(device)
    model: nn.Module | None = None
    data = None
    if sources.cache is not None and sources.samples:
        trained = load_trained(sources.run, sources.config, sources.cache, sources.samples, target)
        model, data = trained.model, trained.data
    return Viewer(task, model, data, target)


def _layers(sources: Sources, viewer: Viewer) -> tuple[dict[str, Any] | None, list[str]]:
    """What each layer is worth, or a note."""
    if viewer.model is None or viewer.data is None:
        return None, []
    steps = passes(viewer.data) * len(viewer.data.held)
    try:
        with progress.task("importance of layers", steps, "samples") as bar:
            found = shuffle_costs(
                viewer.model,
                viewer.data,
                viewer.task,
                batch=sources.config.train.batch,
                device=viewer.device,
                seed=EXCHANGE_SEED,
                advance=bar.advance,
            )
    except UsageError as error:
        return None, [f"The importance of layers is not shown: {error}."]
    how = (
        f"{MEASURES[found.metric]} on {sources.split}, and what it falls by when the tokens of one layer, or of a "
        "whole modality, come from another clip while everything else stays. One fixed exchange of clips, no new "
        "training: small differences are chance."
    )
    return {"metric": found.metric, "base": found.base, "how": how, "rows": [asdict(row) for row in found.rows]}, []


def _run(sources: Sources, parameters: int) -> dict[str, Any]:
    keys = ("dataset", "split", "task", "method", "modality", "stage", "seed", "epoch", "selected_by", "samples")
    counts = {key: sources.metrics.get(key, 0) for key in ("missing", "unlabelled")}
    return {
        "folder": str(sources.run.resolve()),
        **{key: sources.metrics[key] for key in keys},
        **counts,
        "trainable_parameters": parameters,
    }


def _spec(sources: Sources) -> dict[str, Any]:
    """What the features were made with; only fingerprints where the cache is gone."""
    if sources.cache is not None:
        specs = sources.cache.specs.items()
        return {modality: {"fingerprint": spec.fingerprint, "fields": dict(spec.fields)} for modality, spec in specs}
    known = sources.environment.get("fingerprints", {})
    return {modality: {"fingerprint": fingerprint, "fields": {}} for modality, fingerprint in known.items()}


def _caveats(sources: Sources) -> list[str]:
    """What a reader must know before believing a number."""
    notes = []
    weights = (
        {m: str(spec.request.get("weights", "")) for m, spec in sources.cache.specs.items()} if sources.cache else {}
    )
    drawn = sorted(modality for modality, name in weights.items() if name.startswith("random:"))
    if drawn:
        notes.append(
            f"Random weights in the {' and the '.join(drawn)} backbone: scores do not say what a method is worth."
        )
    if missing := sources.metrics["missing"]:
        notes.append(
            f"{missing} of {sources.metrics['samples']} samples have no features; they score as nothing found."
        )
    if bare := sources.metrics.get("unlabelled"):
        notes.append(f"{bare} more samples of {sources.split} have no annotation and are not scored.")
    if segments := sources.metrics.get("unlabelled_segments"):
        notes.append(f"{segments} segments of scored samples have no mask and are not scored.")
    if sources.split != "test":
        chosen = " The epoch was chosen on it." if sources.split == "val" else ""
        notes.append(f"These are scores on {sources.split}, not on test.{chosen}")
    return notes
