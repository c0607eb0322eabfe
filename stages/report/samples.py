"""The clips of a report, hardest first, the confusion matrix, and which clips get a detail."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.metrics import avs
from avpipe.stages.report import class_maps, parsing
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks import AnyTask, EventsTask, SegmentationTask, SemanticTask


def rows(sources: Sources, task: AnyTask) -> tuple[list[dict[str, Any]], list[int]]:
    """One entry per sample, hardest first, and the place in `sources.samples` of each.

    Hard is a low score; among equals (events), a low probability of the true classes. Masks have by segment `empty`
    (nothing is true there; None without annotation) and `painted` (share of pixels that are predicted on). For parsing
    see `parsing.entry`, for class maps `class_maps.entry`. Events have `certainty`, the probability of the predicted
    class by segment, unless the head has two decisions (`cmbs`).
    """
    missing = set(sources.metrics["missing_samples"])
    found = []
    for index, sample in enumerate(sources.samples):
        entry, rank = _entry(sources, task, index)
        about = {"id": sample.id, "held": sample.id not in missing, "detail": False}
        found.append((rank, index, {**about, **entry}))
    found.sort(key=lambda item: item[:2])
    return [entry for _, _, entry in found], [index for _, index, _ in found]


def predictions(sources: Sources, index: int) -> npt.NDArray[Any]:
    """The stored prediction of one sample, of events or masks: scores `[T, classes]` or logits `[T, H, W]`."""
    name = "scores" if sources.config.model.task == "events" else "logits"
    start, end = sources.starts[index : index + 2]
    return sources.predictions[name][start:end]


def confusion(sources: Sources, task: AnyTask) -> dict[str, Any] | None:
    """How often each true class (row) was predicted as each class (column), by `unit`: segments or (class maps) pixels.

    None of parsing and of binary masks. Classes that occur in neither are left out.
    """
    if isinstance(task, SemanticTask):
        return class_maps.confusion(sources, task)
    if not isinstance(task, EventsTask):
        return None
    truth, predicted = np.concatenate(task.truth), sources.predictions["predicted"]
    counts = np.zeros((task.classes, task.classes), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    names, shown = [sources.config.classes[i] for i in used], counts[np.ix_(used, used)]
    return {"classes": names, "counts": shown.tolist(), "unit": "segment"}


def choose(clips: list[dict[str, Any]], count: int) -> list[int]:
    """Places of the clips that get a detail: half of `count` the hardest, the rest spread over those behind them.

    Clips without features have little to show: they get one where all others have theirs.
    """
    ranks = [place for place, clip in enumerate(clips) if clip["held"]]
    if count >= len(ranks):
        others = [place for place, clip in enumerate(clips) if not clip["held"]]
        return ranks + others[: count - len(ranks)]
    hardest = (count + 1) // 2
    rest = ranks[hardest:]
    spread = np.linspace(0, len(rest) - 1, count - hardest + 1)[1:] if count > hardest else np.empty(0)
    return ranks[:hardest] + [rest[round(float(place))] for place in spread]


def _entry(sources: Sources, task: AnyTask, index: int) -> tuple[dict[str, Any], tuple[float, float]]:
    """What the page says of a sample, and by what samples are ranked."""
    if isinstance(task, EventsTask):
        return _event(sources, task, index)
    if isinstance(task, SegmentationTask):
        return _mask(sources, task, index)
    if isinstance(task, SemanticTask):
        entry = class_maps.entry(sources, task, index)
    else:
        entry = parsing.entry(sources, task, index)
    return entry, (entry["score"], 0.0)


def _event(sources: Sources, task: EventsTask, index: int) -> tuple[dict[str, Any], tuple[float, float]]:
    scores, truth = predictions(sources, index), task.truth[index]
    chance = _softmax(scores)
    predicted = np.argmax(scores, axis=-1)
    score = float(task.values(index, scores).mean())
    entry = {"score": score, "segments": len(truth), "truth": truth.tolist(), "predicted": predicted.tolist()}
    if not task.two_head:  # its scores are made to give its decision; their softmax is no probability of a class
        entry["certainty"] = [round(float(row[i]), 4) for row, i in zip(chance, predicted, strict=True)]
    return entry, (score, float(chance[np.arange(len(truth)), truth].mean()))


def _mask(sources: Sources, task: SegmentationTask, index: int) -> tuple[dict[str, Any], tuple[float, float]]:
    masks = sources.samples[index].masks or ()
    logits = predictions(sources, index)
    values = iter(task.values(index, logits).tolist())
    iou = [None if mask is None else round(float(next(values)), 6) for mask in masks]
    painted = (avs.probabilities(logits) > 0.5).mean(axis=(1, 2))
    known = [value for value in iou if value is not None]
    score = float(np.mean(known))
    entry = {
        "score": score,
        "segments": len(masks),
        "iou": iou,
        "empty": [None if mask is None else not mask.any() for mask in task.truth(index)],
        "painted": [round(float(share), 4) for share in painted],
    }
    return entry, (score, 0.0)


def _softmax(scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
