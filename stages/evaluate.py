"""Scores a run by the official protocol of its dataset.

    evaluate(Path("runs/..."))["metrics"]["accuracy"]

Keys of `metrics.json` (of `metrics-<split>.json` for a split other than test):

    run, dataset, split, task, method, modality, stage, seed   what was scored
    protocol        name of the official protocol; the metrics mean nothing without it
    metrics         accuracy, correct, segments (events); the ten numbers segment_audio to event_event_av and videos
                    (parsing); miou, fscore, frames, videos (segmentation, semantic), of class maps also those of
                    `metrics.avss`; fractions
    other_protocols the same metrics by other named protocols (segmentation, semantic; events with head=cmbs)
    samples         number of samples that were scored: those of the split that have an annotation
    unlabelled      those without any, which no score counts; unlabelled_samples names them
    unlabelled_segments  segments of scored samples without a mask, which no score counts either
    missing         those without features, scored as nothing found: background, nothing heard or seen, an empty mask;
                    missing_samples names them
    baselines       metrics of answers that ignore their input: majority_class with its class (events), frequent_classes
                    with its classes and nothing (parsing), constant_mask with share_on and other_protocols
                    (segmentation), background, and constant_map with the shares of its classes (semantic); all but
                    nothing and background are learned from the training labels
    checkpoint      SHA-256 of the weights that were scored, the file best.safetensors
    epoch           epoch of the checkpoint that was scored
    selected_by     how that epoch was chosen, in words
    selection       the split on which it was chosen: `val`; `test` where the run was trained with select=test, and then
                    the names of protocols end in `+test-selected`; `last` where the last epoch was kept
    seconds         time that predicting and scoring took
    predictions     file beside it with the predictions that were scored
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import SPLITS, Sample
from avpipe.stages import checkpoint, runs
from avpipe.stages.best import by_protocol, selection
from avpipe.stages.inference import load_trained, predict_samples
from avpipe.stages.runs import RunConfig
from avpipe.stages.train_inputs import (
    choose_device,
    find_inputs,
    labelled,
    learnable,
    refuse_other_classes,
    say_missing,
    unlabelled,
)


def evaluate(
    run: Path,
    split: str = "test",
    *,
    cache: Path | None = None,
    root: Path | None = None,
    device: str = "auto",
    residency: str = "disk",
) -> dict[str, Any]:
    """Scores the best checkpoint of a run and writes `metrics.json` and `predictions-<split>.npz` into its folder.

    Predictions hold `ids` (samples), `segments` (how many each has) and, for all segments one after the other,
    `scores` `[segments, classes]` and `predicted` class ids (events), `segment_probability` `[segments, 2, classes]`
    (parsing; audio, visual), `logits` `[segments, H, W]` (segmentation) or `predicted` class ids `[segments, H, W]`
    (semantic); for parsing also `video_probability`
    `[samples, classes]`, for events with head=cmbs `event_logit` `[segments]` and `class_logit` `[samples, events]`;
    and `selection` as `metrics.json` has it, so that `avpipe score` names the same protocol.

    Args:
        run: the run folder.
        split: `test`, `val` or `train`.
        cache: where the features are now; default: where they were at training.
        root: where the dataset is now; default: where it was at training.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        residency: where the features are kept; from `disk` each is read once, ahead of the model.

    Returns:
        the content of `metrics.json`, see the module.

    Raises:
        UsageError: no run, no finished epoch, unknown split, nothing to score.
        CacheMismatch: the cache holds other features than the run was trained on.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    target = choose_device(device)
    config = RunConfig.load(run)
    known = Path(config.root)
    place, features = root or (known if known.is_dir() else None), cache or Path(config.cache)
    inputs = find_inputs(config.dataset, place, features, config.table_task)
    refuse_other_classes(run, config.classes, inputs.dataset)
    runs.refuse_other_features(run, inputs.cache, config.train.modalities)
    samples = labelled(inputs.dataset, split)
    if not samples:
        lacking = "sample with dense events" if inputs.dataset.task == "parsing" else "labelled sample"
        raise UsageError(f"{config.dataset} at {inputs.dataset.root} has no {lacking} in split {split}")
    start = time.perf_counter()
    scored = checkpoint_hash(run)  # before it is read: were it replaced in between, the scores would count as stale
    trained = load_trained(run, config, inputs.cache, samples, target, residency=residency)
    data, task = trained.data, config.build_task(samples)
    say_missing(split, inputs.cache, samples, data.missing, "scored as nothing found")
    with progress.task("predict", len(data.held), "samples") as bar:
        found = predict_samples(trained.model, data, task, batch=config.train.batch, device=target, advance=bar.advance)
    scores = task.score(found)
    chosen_on = selection(trained.facts["selected_by"])
    result = {
        "run": str(run),
        "dataset": config.dataset,
        "split": split,
        "task": config.model.task,
        **{key: getattr(config.train, key) for key in ("method", "modality", "stage", "seed")},
        **by_protocol(scores, chosen_on),
        "samples": len(samples),
        "unlabelled": len(bare := unlabelled(inputs.dataset, split)),
        "unlabelled_samples": list(bare),
        "unlabelled_segments": sum(mask is None for sample in samples for mask in sample.masks or ()),
        "missing": len(data.missing),
        "missing_samples": list(data.missing),
        "baselines": {
            known.name: {**_constant(by_protocol(task.score(known.predictions), chosen_on)), **known.about}
            for known in task.baselines(learnable(inputs.dataset), config.classes)
        },
        "checkpoint": scored,
        "epoch": trained.facts["epoch"],
        "selected_by": trained.facts["selected_by"],
        "selection": chosen_on,
        "seconds": round(time.perf_counter() - start, 3),
        "predictions": f"predictions-{split}.npz",
    }
    _write_predictions(run / f"predictions-{split}.npz", samples, task.arrays(found), chosen_on)
    name = "metrics.json" if split == "test" else f"metrics-{split}.json"
    checkpoint.write_atomic(run / name, json.dumps(result, indent=2, ensure_ascii=False).encode())
    return result


def checkpoint_hash(run: Path) -> str:
    """SHA-256 of a run's best checkpoint, as a file.

    Raises:
        UsageError: there is none.
    """
    path = run / runs.BEST
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"there is no checkpoint {path} ({error.strerror}): go on with `avpipe train --run {run} --resume`"
        ) from error


def _constant(named: dict[str, Any]) -> dict[str, Any]:
    """Scores of a constant answer: its metrics and, where there are several, those by other protocols."""
    others = {key: named[key] for key in ("other_protocols",) if key in named}
    return {**named["metrics"], **others}


def _write_predictions(path: Path, samples: Sequence[Sample], arrays: dict[str, Any], chosen_on: str) -> None:
    buffer = io.BytesIO()
    ids = np.array([sample.id for sample in samples])
    np.savez(buffer, allow_pickle=False, ids=ids, selection=np.array(chosen_on), **arrays)
    checkpoint.write_atomic(path, buffer.getvalue())
