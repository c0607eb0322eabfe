"""Everything that a report says, as one JSON-ready document. `page.render` shows it.

Keys: `format`, `title`, `made`, `avpipe`, `run`, `settings`, `spec`, `environment`, `notes`, `classes`,
`segment_seconds`, `frame_position` (null where the dataset is gone), `curves`, `scores`, `confusion` (events: segments,
class maps: pixels), `class_scores` (parsing), `layers`, `costs`, `clips`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from avpipe.stages.backbones.wording import in_words
from avpipe.stages.effect import in_effect
from avpipe.stages.inference import load_trained
from avpipe.stages.model import build_model
from avpipe.stages.report import costs, kind, parsing, samples, scores
from avpipe.stages.report.caveats import caveats, weights_of
from avpipe.stages.report.details import Planned, Viewer, attention_lacking, lacking, plan
from avpipe.stages.report.layers import importance
from avpipe.stages.report.page import FORMAT
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks import ParsingTask
from avpipe.stages.train_inputs import choose_device


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


def build(sources: Sources, *, clips: int, beside: Sequence[Path] | None, device: str, layers: bool = True) -> Document:
    """Puts the document together.

    Args:
        sources: the run and its data.
        clips: how many clips get a detail.
        beside: other runs; see `scores.tables`.
        device: where the model computes.
        layers: whether the importance of layers is measured.
    """
    config = sources.config
    task = config.build_task(sources.samples)
    table, left_out = scores.tables(sources, beside)  # first: it may refuse a run
    viewer = _viewer(sources, task, device)
    parameters = sum(p.numel() for p in build_model(config.model, config.train).parameters() if p.requires_grad)
    entries, order = samples.rows(sources, task)
    planned, media_notes = plan(sources, order, samples.choose(entries, clips))
    for one in planned:
        entries[one.place]["detail"] = True
    begun = time.perf_counter()
    if layers:
        worth, layer_notes = importance(sources, viewer)
    else:
        worth, layer_notes = None, ["The importance of layers was left out (`--no-layers`)."]
    spent = {"importance of layers": time.perf_counter() - begun} if worth else {}
    before = caveats(sources, task, entries, table)
    notes = [*before, *sources.notes, *lacking(sources.cache), *attention_lacking(sources, viewer)]
    data = {
        "format": FORMAT,
        "title": sources.run.resolve().name,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "avpipe": version("avpipe"),
        "run": without_home(_run(sources, parameters)),
        "settings": in_effect(config.train, config.model.task),
        "spec": without_home(_spec(sources)),
        "environment": without_home(sources.environment),
        "notes": without_home([*notes, *media_notes, *layer_notes, *left_out]),
        "classes": list(config.classes),
        "segment_seconds": sources.dataset.timeline.segment_seconds if sources.dataset else 1.0,
        "frame_position": sources.dataset.timeline.frame_position if sources.dataset else None,
        "curves": {"score": f"{config.train.select}_{task.metric}", "epochs": sources.epochs},
        "scores": table,
        "confusion": samples.confusion(sources, task) if sources.samples else None,
        "class_scores": parsing.class_scores(sources, task) if isinstance(task, ParsingTask) else None,
        "layers": worth,
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


def without_home(value: Any) -> Any:
    """The value with `~` for the user's home folder in every text: reports are passed on."""
    if isinstance(value, str):
        return _home().sub("~", value)
    if isinstance(value, Mapping):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_home(item) for item in value]
    return value


def _home() -> re.Pattern[str]:
    """Matches the home folder where a path begins with it; nothing where there is none of its own."""
    try:
        homes = {str(Path.home()), str(Path.home().resolve())} - {"/"}
    except RuntimeError:  # a user without one
        homes = set()
    names = "|".join(re.escape(home) for home in sorted(homes, key=len, reverse=True))
    return re.compile(rf"(?<![\w./-])(?:{names})(?![\w-]|\.\w)" if names else r"(?!)")


def _viewer(sources: Sources, task: Any, device: str) -> Viewer:
    """The trained model and the features of the split, where there are any."""
    target = choose_device(device)
    model: nn.Module | None = None
    data = None
    if sources.cache is not None and sources.samples:
        trained = load_trained(sources.run, sources.config, sources.cache, sources.samples, target)
        model, data = trained.model, trained.data
    return Viewer(task, model, data, target)


def _run(sources: Sources, parameters: int) -> dict[str, Any]:
    keys = ("dataset", "split", "task", "method", "modality", "seed", "epoch", "selected_by", "samples")
    counts = {key: sources.metrics.get(key, 0) for key in ("missing", "unlabelled")}
    return {
        "folder": str(sources.run.resolve()),
        **{key: sources.metrics[key] for key in keys},
        **counts,
        "stage": kind.in_words(sources.config),
        "gates": kind.gates(sources.run, sources.config),
        "trainable_parameters": parameters,
        "backbones": _backbones(sources),
    }


def _backbones(sources: Sources) -> dict[str, str]:
    """What the run's features come from, a line for each modality that it used, with the taps that it learned from."""
    found = {}
    for modality, weights in weights_of(sources).items():
        spec = sources.cache.specs[modality] if sources.cache else None
        fields, request = (spec.fields, spec.request) if spec else ({}, {})
        model = sources.config.model
        taps, adapted = list(model.shapes[modality]), len(model.adapted.get(modality, ()))
        found[modality] = in_words(fields, {**request, "weights": weights}, taps, adapted=adapted)
    return found


def _spec(sources: Sources) -> dict[str, Any]:
    """What the features were made with, by modality that the run used; without `fields` where the cache is gone."""
    found = {}
    for modality, weights in weights_of(sources).items():
        if sources.cache is not None:
            spec = sources.cache.specs[modality]
            one = {"fingerprint": spec.fingerprint, "fields": dict(spec.fields)}
        else:
            one = {"fingerprint": sources.environment.get("fingerprints", {}).get(modality), "fields": {}}
        found[modality] = {**one, "weights": weights}
    return found
