"""Anybody's predictions by the official protocol of their task: see `score`. Nothing in here imports torch."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.findings import FAULT
from avpipe.pipeline.manifest import MIXED, SPLITS, Dataset
from avpipe.stages.best import TEST_SELECTED, by_protocol
from avpipe.stages.scoring.names import listed
from avpipe.stages.scoring.npz import selection_of
from avpipe.stages.scoring.rules import Load, Rules

MISSING = ("refuse", "blank")
"""What becomes of samples without a prediction: an error, or nothing found."""
_THREADS = 8
_OF_MEDIA = ("missing-file", "missing-folder", "missing-frame", "missing-table", "unknown-length")
"""Findings that change no score: files that scoring does not open, and tables of other splits."""


def score(
    name: str,
    predictions: Path,
    *,
    root: Path | None = None,
    split: str = "test",
    task: str | None = None,
    protocol: str | None = None,
    missing: str = "refuse",
    options: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scores predictions. Only annotations are needed, and masks where they are the truth.

    Args:
        name: dataset, or a table of the user's own.
        predictions: an npz file, a table or a folder of pictures, see docs/scoring.md.
        root: folder of the dataset.
        split: `test`, `val` or `train`.
        task: what is predicted, where a table of the user's own allows several tasks.
        protocol: the one that is reported first; default: the task's official one.
        missing: one of `MISSING`.
        options: `key=value` settings of the dataset.

    Returns:
        JSON-ready: `dataset`, `root`, `split`, `task`, `options`, `predictions` (path); `selection`, the split on which
        the epoch was chosen where the file says so, else None; `protocol`, `metrics` and
        `other_protocols`, as `avpipe evaluate` has them; `printed`, the lines of the official program, where it prints
        in a form of its own, else None; `samples` that were scored; `unlabelled` and `unlabelled_samples`, those
        without annotation; `unlabelled_segments` of scored samples; `missing` and `missing_samples`, those without a
        prediction, scored as nothing found; `missing_segments` of other samples; `other_splits`, how many samples of
        other splits have a prediction, which is ignored; for masks `mask_size`; for questions `unknown_answers`;
        `annotation_faults`, what is wrong with this copy of the annotations, media aside; `seconds`.

    Raises:
        UsageError: the dataset is not there, or predictions do not fit it; names sample and place.
    """
    for given, allowed, what in ((split, SPLITS, "split"), (missing, MISSING, "--missing")):
        if given not in allowed:
            raise unknown_name(what, given, allowed)
    start = time.perf_counter()
    dataset = _one_task(load_dataset(name, root, task=task, options=options))
    rules = _rules(dataset.task)(dataset, split, predictions, blank_missing=missing == "blank")
    chosen_on = selection_of(predictions)
    lacking = _score_all(rules)
    plain = protocol.removesuffix(TEST_SELECTED) if protocol and chosen_on == "test" else protocol
    scores = rules.result(plain)
    named = by_protocol(scores, chosen_on)
    known = {rules.samples[place].id for place in rules.wanted.scored}
    bare = [sample.id for sample in dataset.split(split) if sample.id not in known]
    masks = [mask for place in rules.wanted.scored for mask in rules.samples[place].masks or ()]
    return {
        **{"dataset": dataset.name, "root": str(dataset.root), "split": split, "task": dataset.task},
        "options": dict(dataset.options),
        "predictions": str(predictions),
        "selection": chosen_on,
        "protocol": named["protocol"],
        "metrics": named["metrics"],
        "other_protocols": named.get("other_protocols", {}),
        "printed": rules.printed(scores),
        "samples": len(known),
        "unlabelled": len(bare),
        "unlabelled_samples": bare,
        "unlabelled_segments": sum(mask is None for mask in masks),
        "missing": len(lacking),
        "missing_samples": lacking,
        "missing_segments": int(rules.lacking_segments.sum()),
        "other_splits": len(rules.elsewhere),
        **rules.facts(),
        "annotation_faults": [str(f) for f in dataset.findings if f.level == FAULT and f.kind not in _OF_MEDIA],
        "seconds": round(time.perf_counter() - start, 3),
    }


def _one_task(dataset: Dataset) -> Dataset:
    """The dataset, under the name of its subset where it has one.

    Raises:
        UsageError: it has several.
    """
    if len(dataset.subsets) > 1 or dataset.task == MIXED:
        names = ", ".join(f"{dataset.name}-{subset}" for subset in dataset.subsets)
        raise UsageError(f"{dataset.name} at {dataset.root} has several subsets: name one with --dataset ({names})")
    if dataset.subsets and not dataset.name.endswith(f"-{dataset.subsets[0]}"):
        return replace(dataset, name=f"{dataset.name}-{dataset.subsets[0]}")
    return dataset


def _rules(task: str) -> type[Rules]:
    """The rules of a task; no other task's are imported."""
    if task == "events":
        from avpipe.stages.scoring.events import EventsRules

        return EventsRules
    if task == "parsing":
        from avpipe.stages.scoring.parsing import ParsingRules

        return ParsingRules
    if task == "qa":
        from avpipe.stages.scoring.answers import AnswersRules

        return AnswersRules
    if task == "segmentation":
        from avpipe.stages.scoring.masks import SegmentationRules

        return SegmentationRules
    if task == "semantic":
        from avpipe.stages.scoring.semantic import SemanticRules

        return SemanticRules
    raise UsageError(f"there is no official protocol for the task {task}")


def _score_all(rules: Rules) -> list[str]:
    """Scores every sample; returns the ids of those without a prediction.

    Raises:
        UsageError: a prediction cannot be scored, or is missing and must not be.
    """
    seen: set[int] = set()
    with progress.task("score", len(rules.wanted.scored), "samples") as bar:
        for place in _scored(rules):
            seen.add(place)
            bar.advance()
    lacking = [place for place in rules.wanted.scored if place not in seen]
    ids = [rules.samples[place].id for place in lacking]
    if lacking and (not rules.blank_missing or (rules.elsewhere and not seen)):
        raise _lacking(rules, ids)
    for place in lacking:
        _score_one(rules, place, partial(rules.blank, place))
    return ids


def _lacking(rules: Rules, ids: list[str]) -> UsageError:
    """For predictions that leave samples of the split out."""
    what = f"{len(ids)} of {len(rules.wanted.scored)} samples of split {rules.wanted.names.split} have no prediction"
    if not rules.elsewhere:
        return UsageError(f"{rules.source}: {what}: {listed(ids)}; --missing blank scores them as nothing found")
    others = Counter(rules.samples[place].split for place in rules.elsewhere)
    parts = " and ".join(f"{number} of split {split}" for split, number in others.items())
    return UsageError(f"{rules.source}: {what}: {listed(ids)}; it has {parts}: choose the split with --split")


def _scored(rules: Rules) -> Iterator[int]:
    """Scores the samples that have a prediction and yields their places; heavy ones a few at a time, so that memory
    does not grow with their number."""
    jobs = ((place, load) for place, load in rules.read() if rules.wants(place))
    if not rules.heavy:
        for place, load in jobs:
            _score_one(rules, place, load)
            yield place
        return
    workers = min(cores(), _THREADS)
    under_way: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for place, load in jobs:
                under_way.append((place, pool.submit(_score_one, rules, place, load)))
                if len(under_way) > 2 * workers:
                    yield _finished(*under_way.popleft())
            while under_way:
                yield _finished(*under_way.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(place: int, job: Future[None]) -> int:
    job.result()
    return place


def _score_one(rules: Rules, place: int, load: Load) -> None:
    try:
        rules.add(place, load())
    except UsageError as error:
        raise UsageError(f"{rules.source}: sample {rules.samples[place].id!r}: {error}") from error
