"""What `avpipe evaluate` has left in a run folder: metrics, predictions, and whether they are of the weights there."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages import runs
from avpipe.stages.evaluate import checkpoint_hash

_NEEDED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "split", "task", "method", "modality", "stage", "protocol", "selected_by"), (str,)),
    **dict.fromkeys(("seed", "samples", "missing", "epoch"), (int,)),
    **dict.fromkeys(("metrics", "baselines"), (dict,)),
    "seconds": (int, float),
    "missing_samples": (list,),
}
"""Keys of metrics that reports use, with their types; others may be absent."""


def is_scored(run: Path, split: str) -> bool:
    """Whether a run has scores of a split that are of its best checkpoint.

    The metrics name the checkpoint by its hash; metrics that do not, of an earlier version, count where they and the
    predictions are as new as the checkpoint.
    """
    try:
        known = read_metrics(run, split).get("checkpoint")
        if known is not None:
            return bool(known == checkpoint_hash(run))
        files = (_metrics_file(run, split), _predictions_file(run, split))
        return min(file.stat().st_mtime_ns for file in files) >= (run / runs.BEST).stat().st_mtime_ns
    except (OSError, UsageError):
        return False


def read_metrics(run: Path, split: str) -> dict[str, Any]:
    """Scores of a run on a split, with every key that a report needs.

    Raises:
        UsageError: there are none, or they cannot be read, or they lack a key.
    """
    path = _metrics_file(run, split)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("split") != split:
            raise ValueError("these are no scores of that split")
        lacking = [key for key, kinds in _NEEDED.items() if not isinstance(found.get(key), kinds)]
        if lacking:
            raise ValueError(f"no sound value of {', '.join(lacking)}")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, run, split) from error
    return found


def read_predictions(run: Path, split: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of the stored predictions; see `evaluate`.

    Raises:
        UsageError: there are none, or they cannot be read.
    """
    path = _predictions_file(run, split)
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        if not {"ids", "segments"} <= found.keys() or len(found["ids"]) != len(found["segments"]):
            raise ValueError("it does not say of which samples they are")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error, run, split) from error
    return found


def same_samples(predictions: dict[str, npt.NDArray[Any]], samples: Sequence[Sample]) -> bool:
    """Whether predictions are of these samples, in this order, with as many segments each."""
    known = list(zip(predictions["ids"].tolist(), predictions["segments"].tolist(), strict=True))
    return known == [(one.id, one.segments or len(one.events or one.masks or ())) for one in samples]


def _unreadable(path: Path, error: Exception, run: Path, split: str) -> UsageError:
    return UsageError(f"{path} cannot be read ({error}): run `avpipe evaluate --run {run} --split {split}`")


def _metrics_file(run: Path, split: str) -> Path:
    return run / ("metrics.json" if split == "test" else f"metrics-{split}.json")


def _predictions_file(run: Path, split: str) -> Path:
    return run / f"predictions-{split}.npz"
