"""What a report is made from: a run, its scores on a split, and whatever is still there of its dataset and cache."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline import progress
from avpipe.pipeline.cache import Cache, open_cache
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.datasets import find, load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip, Dataset, Sample
from avpipe.stages import runs
from avpipe.stages.evaluate import evaluate
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

    @property
    def clips(self) -> dict[str, Clip]:
        """The dataset's clips by id."""
        return {clip.id: clip for clip in self.dataset.clips} if self.dataset else {}

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each sample's predictions begin, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.predictions["segments"])]).astype(np.int64)


def open_sources(run: Path, split: str, cache: Path | None, root: Path | None, device: str) -> Sources:
    """Opens what a report needs, and scores the split first where that was not done since the last training.

    Args:
        run: the run folder.
        split: `test`, `val` or `train`.
        cache: where the features are now; default: where they were at training, if they still are.
        root: where the dataset is now; default: where it was at training, or else where it is usually found.
        device: for scoring.

    Raises:
        UsageError: no run or no finished epoch; a named cache or root that is none; the split was not scored and cannot
            be any more.
        CacheMismatch: the cache holds other features than the run was trained on.
    """
    config = RunConfig.load(run)
    if not (run / runs.BEST).is_file():
        raise UsageError(f"run {run} has no finished epoch: go on with `avpipe train --run {run} --resume`")
    notes: list[str] = []
    opened = _cache(run, config, cache, notes)
    dataset = _dataset(config, opened, root, notes)
    samples = labelled(dataset, split) if dataset else ()
    if not is_scored(run, split) or (dataset and opened and not _same_samples(run, split, samples)):
        progress.say(f"{run} is scored on {split} first")
        evaluate(run, split, cache=cache, root=root, device=device)
    metrics, predictions = read_metrics(run, split), _read_predictions(run, split)
    if dataset and not _same_samples(run, split, samples):
        notes.append("Labels and predictions are of different samples, so no clip is shown.")
        samples = ()
    environment = runs.recorded_environment(run)
    if opened and opened.content_hash() != environment.get("content_hash"):
        notes.append("The cache has grown or changed since the run was started.")
    epochs = _read_epochs(run)
    return Sources(
        run, split, config, environment, epochs, metrics, predictions, samples, dataset, opened, tuple(notes)
    )


def is_scored(run: Path, split: str) -> bool:
    """Whether a run has scores and predictions of a split that are as new as its best checkpoint."""
    try:
        best = (run / runs.BEST).stat().st_mtime_ns
        files = (_metrics_file(run, split), _predictions_file(run, split))
        return min(file.stat().st_mtime_ns for file in files) >= best and bool(read_metrics(run, split))
    except (OSError, UsageError):
        return False


def read_metrics(run: Path, split: str) -> dict[str, Any]:
    """Scores of a run on a split.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    path = _metrics_file(run, split)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict) or found.get("split") != split:
            raise ValueError("these are no scores of that split")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): run `avpipe evaluate --run {run} --split {split}`"
        ) from error
    return found


def _metrics_file(run: Path, split: str) -> Path:
    return run / ("metrics.json" if split == "test" else f"metrics-{split}.json")


def _predictions_file(run: Path, split: str) -> Path:
    return run / f"predictions-{split}.npz"


def _read_predictions(run: Path, split: str) -> dict[str, npt.NDArray[Any]]:
    path = _predictions_file(run, split)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): run `avpipe evaluate --run {run} --split {split}`"
        ) from error


def _same_samples(run: Path, split: str, samples: tuple[Sample, ...]) -> bool:
    """Whether the stored predictions are of these samples, with as many segments each."""
    try:
        with np.load(_predictions_file(run, split), allow_pickle=False) as stored:
            known = list(zip(stored["ids"].tolist(), stored["segments"].tolist(), strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return known == [(sample.id, len(sample.events or sample.masks or ())) for sample in samples]


def _read_epochs(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / runs.EPOCHS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError):
        return []


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


def _dataset(config: RunConfig, cache: Cache | None, root: Path | None, notes: list[str]) -> Dataset | None:
    """The dataset; None, with a note, where it is no longer there."""
    known = [Path(config.root), Path(str(cache.dataset.get("root", "")) if cache else "")]
    place = root or next((path for path in known if path.is_absolute() and path.is_dir()), None)
    if root is not None or find(config.dataset, place) is not None:
        return load_dataset(config.dataset, place)
    notes.append(
        f"The dataset {config.dataset} is gone from {config.root}, so no clip is shown beside its labels: name its new "
        "place with --root."
    )
    return None
