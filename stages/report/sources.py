"""What a report is made from: a run, its scores on a split, and whatever is still there of its dataset and cache."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline import progress
from avpipe.pipeline.cache import Cache, open_cache
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.datasets import find
from avpipe.pipeline.datasets.origin import read_again
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip, Dataset, Sample
from avpipe.stages import runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.report.scored import is_scored, read_metrics, read_predictions, same_samples
from avpipe.stages.runs import RunConfig
from avpipe.stages.train_inputs import labelled


@dataclass(frozen=True)
class Sources:
    """What is there.

    Attributes:
        run: the run folder.
        split: the split that is shown.
        config: settings of the run.
        environment: in what it was started.
        epochs: one record per finished epoch.
        metrics: content of `metrics.json` of the split.
        predictions: arrays of `predictions-<split>.npz`.
        samples: labelled samples of the split in the order of the predictions; empty where the dataset is gone.
        dataset: None where it is gone.
        cache: None where it is gone.
        notes: what is gone, and what that means.
    """

    run: Path
    split: str
    config: RunConfig
    environment: dict[str, Any]
    epochs: list[dict[str, Any]]
    metrics: dict[str, Any]
    predictions: dict[str, npt.NDArray[Any]]
    samples: tuple[Sample, ...]
    dataset: Dataset | None
    cache: Cache | None
    notes: tuple[str, ...]

    @cached_property
    def clips(self) -> dict[str, Clip]:
        """The dataset's clips by id."""
        return {clip.id: clip for clip in self.dataset.clips} if self.dataset else {}

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each sample's predictions begin, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.predictions["segments"])]).astype(np.int64)


def open_sources(run: Path, split: str, cache: Path | None, root: Path | None, device: str) -> Sources:
    """Opens what a report needs, and scores the split first where its best checkpoint was not scored yet.

    Scores of that checkpoint are never replaced: where the dataset that is found now has other samples than they are
    of, no clip is shown.

    Args:
        run: the run folder.
        split: `test`, `val` or `train`.
        cache: where the features are now; default: where they were at training, if they still are.
        root: where the dataset is now; default: where it was at training, or else where it is usually found, if the
            samples there are those that were scored.
        device: for scoring.

    Raises:
        UsageError: no run or no finished epoch; a named cache or root that is none; the split was not scored and cannot
            be any more; predictions that cannot be read.
        CacheMismatch: the cache holds other features than the run was trained on.
    """
    config = RunConfig.load(run)
    notes: list[str] = []
    epochs = _read_epochs(run, notes)
    if not (run / runs.BEST).is_file():
        raise _no_checkpoint(run, epochs)
    opened = _cache(run, config, cache, notes)
    dataset = _dataset(config, opened, root)
    if not is_scored(run, split):
        _score(run, split, config, dataset, cache, device)
    metrics, predictions = read_metrics(run, split), read_predictions(run, split)
    if dataset is None:
        dataset = _usual_dataset(config, split, predictions, notes)
    if dataset and dataset.classes != config.classes:
        notes.append("The dataset has other classes than at training, so no clip is shown beside its labels.")
        dataset = None
    samples = labelled(dataset, split) if dataset else ()
    if dataset and not same_samples(predictions, samples):
        notes.append("Labels and predictions are of different samples, so no clip is shown.")
        samples = ()
    if dataset and dataset.root.resolve() != Path(config.root).resolve():
        notes.append(f"The dataset is read from {dataset.root.resolve()}; at training it was at {config.root}.")
    environment = runs.recorded_environment(run)
    if opened and opened.content_hash() != environment.get("content_hash"):
        notes.append("The cache has grown or changed since the run was started.")
    return Sources(
        run, split, config, environment, epochs, metrics, predictions, samples, dataset, opened, tuple(notes)
    )


def _score(run: Path, split: str, config: RunConfig, dataset: Dataset | None, cache: Path | None, device: str) -> None:
    """Scores on the dataset that was found; on none where it would be a guess."""
    if dataset is None:
        raise UsageError(
            f"run {run} is not scored on {split} since it was trained, and dataset {config.dataset} is gone from "
            f"{config.root}: name its new place with --root, here or for `avpipe evaluate --run {run} --split {split}`"
        )
    progress.say(f"{run} is scored on {split} first")
    evaluate(run, split, cache=cache, root=dataset.root, device=device)


def _read_epochs(run: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The records up to the first that cannot be read, with a note where there is such a one, or none at all."""
    found: list[dict[str, Any]] = []
    try:
        lines = (run / runs.EPOCHS).read_text(encoding="utf-8").splitlines()
        for line in filter(str.strip, lines):
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
                raise ValueError("that is no record of an epoch")
            found.append(record)
    except (OSError, ValueError):
        if found:
            notes.append(f"{runs.EPOCHS} cannot be read behind epoch {found[-1]['epoch']}: curves and times end there.")
    if not found:
        notes.append(f"No record of the epochs in {runs.EPOCHS}: no curves, no training time.")
    return found


def _no_checkpoint(run: Path, epochs: list[dict[str, Any]]) -> UsageError:
    """Tells a run that has lost its checkpoint from one that never had one."""
    if epochs or (run / runs.LAST).is_file():
        return UsageError(
            f"{run / runs.BEST} is missing, though epochs were finished: restore the file, or train again"
        )
    return UsageError(f"run {run} has no finished epoch: go on with `avpipe train --run {run} --resume`")


def _cache(run: Path, config: RunConfig, wanted: Path | None, notes: list[str]) -> Cache | None:
    """The open cache; None, with a note, where it is no longer where it was."""
    if wanted is None and not is_cache(Path(config.cache)):
        notes.append(
            f"The cache {config.cache} is gone, so there are no stored frames and sound, no attention and no "
            "importance of layers: name its new place with --cache."
        )
        return None
    opened = open_cache(wanted or Path(config.cache))
    runs.refuse_other_features(run, opened, config.train.modalities)
    return opened


def _dataset(config: RunConfig, cache: Cache | None, root: Path | None) -> Dataset | None:
    """The dataset at `root`, or where the run or its cache had it; None where it is no longer there."""
    if root is not None:
        return _read(config, cache, root)
    for place in (Path(config.root), Path(str(cache.dataset.get("root", "")) if cache else "")):
        if place.is_absolute() and find(config.dataset, place) is not None:
            return _read(config, cache, place)
    return None


def _read(config: RunConfig, cache: Cache | None, root: Path) -> Dataset:
    """The dataset at `root`, read as it was for the training."""
    held = {clip: rows.segments for clip, rows in cache.clips().items()} if cache else None
    origin = {"options": config.options}
    return read_again(config.dataset, root, origin, task=config.table_task, segments=held)


def _usual_dataset(
    config: RunConfig, split: str, predictions: dict[str, npt.NDArray[Any]], notes: list[str]
) -> Dataset | None:
    """The dataset where it is usually found, if that is the one that was scored; None, with a note, where it is not.

    What lies there may well be another dataset of the same name, such as demo data.
    """
    what = ""
    if (place := find(config.dataset)) is not None:
        try:
            dataset = _read(config, None, place)
            if same_samples(predictions, labelled(dataset, split)):
                return dataset
            what = f" ({place} has other samples)"
        except UsageError:
            what = f" ({place} cannot be read)"
    notes.append(
        f"The dataset {config.dataset} is gone from {config.root}{what}, so no clip is shown beside its labels: name "
        "its new place with --root."
    )
    return None
