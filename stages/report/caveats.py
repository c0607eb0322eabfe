"""What a reader must know before believing a number, as notes of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import SPLITS
from avpipe.stages import runs
from avpipe.stages.metrics import avs
from avpipe.stages.report import class_maps, parsing
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks import AnyTask, EventsTask, ParsingTask, SemanticTask


def caveats(sources: Sources, task: AnyTask, clips: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> list[str]:
    """Notes, the weightiest first.

    Args:
        sources: the run and its data.
        task: rules for its samples.
        clips: entries of the page's clips, see `samples.rows`.
        table: the scores, see `scores.tables`.
    """
    said = [*_data(sources), *_constant(sources, task), *_supervision(sources)]
    return [*said, *_chance(sources, clips, table), *_scoring(sources)]


def weights_of(sources: Sources) -> dict[str, str | None]:
    """Which weights were asked for, by modality that the run used; as recorded, or else by the cache."""
    modalities = sources.config.train.modalities
    known = sources.environment.get("weights")
    if isinstance(known, Mapping):
        return {modality: known.get(modality) for modality in modalities}
    return runs.asked_weights(sources.cache, modalities) if sources.cache else dict.fromkeys(modalities)


def counted(number: int, thing: str) -> str:
    """A number with its noun: `1 clip`, `2 clips`."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _data(sources: Sources) -> list[str]:
    """Whether data and features are real."""
    notes = []
    if record := _demo(sources):
        made = ", ".join(f"{key} {record.get(key, '?')}" for key in ("seed", "clips", "generator"))
        notes.append(f"Synthetic demo data ({made}): scores say nothing about real recordings.")
    weights = weights_of(sources)
    drawn = sorted(modality for modality, name in weights.items() if name and name.startswith("random:"))
    if drawn:
        what = f"{' and the '.join(drawn)} {'backbone' if len(drawn) == 1 else 'backbones'}"
        notes.append(f"Random weights in the {what}: scores do not say what a method is worth.")
    return notes


def _demo(sources: Sources) -> Mapping[str, Any] | None:
    """How demo data were made: as the run recorded it, or else as the dataset says now; None for other data."""
    known = sources.environment.get("data")
    if isinstance(known, Mapping):
        record = known.get("demo")
        return record if isinstance(record, Mapping) else None
    try:
        return runs.demo_record(sources.dataset) if sources.dataset else None
    except UsageError:
        return None


def _constant(sources: Sources, task: AnyTask) -> list[str]:
    """Whether the answer is the same whatever the input."""
    if isinstance(task, ParsingTask):
        same = parsing.same_everywhere(sources, task)
        return [f"The model {same} in every segment of {sources.split}."] if same else []
    if isinstance(task, SemanticTask):
        name = class_maps.same_everywhere(sources)
        return [f"The model predicts {name} in every pixel of {sources.split}."] if name else []
    if isinstance(task, EventsTask):
        predicted = np.unique(sources.predictions["predicted"])
        name = sources.config.classes[int(predicted[0])] if len(predicted) == 1 else ""
        return [f"The model predicts {name} in every segment of {sources.split}."] if name else []
    logits = sources.predictions["logits"]
    lowest, highest = avs.probabilities([logits.min(), logits.max()]) > 0.5  # the sigmoid keeps the order
    if lowest == highest:
        what = "everything" if lowest else "nothing"
        return [f"The model paints {what} in every segment of {sources.split}."]
    return []


def _supervision(sources: Sources) -> list[str]:
    """What training saw of the labels, where that is less than what is scored."""
    compared = sources.metrics.get("selection", "val") in SPLITS
    chosen = " The epoch was chosen by labels of segments all the same." if compared else ""
    if sources.config.model.task == "parsing":
        return [
            "Weak labels: training saw which classes a clip holds, not when, and not whether they are heard or seen; "
            f"scores are of every segment.{chosen}"
        ]
    if sources.config.train.supervision == "weak":
        return [
            "Weak supervision (`supervision=weak`): training saw the classes of whole clips, not when they occur; "
            f"scores are of every segment.{chosen}"
        ]
    return []


def _chance(sources: Sources, clips: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> list[str]:
    """How much of a score is chance, where no other seed stands beside it to show that."""
    rows = table["protocols"][0]["rows"]
    if sum(row["group"] == rows[0]["group"] for row in rows) > 1:
        return []
    known = np.array([clip["score"] for clip in clips if np.isfinite(clip["score"])])
    if sources.config.model.task == "semantic":  # no mean over samples
        seen = sources.metrics["metrics"]["classes_seen"]
        return [
            f"{counted(len(known), 'sample')} of {sources.split}, one seed, {seen} of {len(sources.config.classes)} "
            "classes met: the official mIoU gives each class the same weight and those never met 0, so a class with "
            "few frames moves it as much as any other."
        ]
    if len(known) < 2 or (known == known[0]).all():
        return ["One seed: another one would give another score."]
    error = 100 * known.std(ddof=1) / np.sqrt(len(known))
    return [
        f"{counted(len(known), 'sample')} of {sources.split} "
        f"({counted(sum(clip['segments'] for clip in clips), 'segment')}), one seed: the mean score has a standard "
        f"error of {error:.1f} points over samples, so differences of less than {2 * error:.1f} points may be chance."
    ]


def _scoring(sources: Sources) -> list[str]:
    """What was not scored, or on what."""
    notes = []
    if sources.metrics.get("selection") == "test":
        notes.append(
            "The epoch was chosen on the test split (select=test): scores on test are too high for that reason."
        )
    if missing := sources.metrics["missing"]:
        total = counted(sources.metrics["samples"], "sample")
        be = "has no features; it scores" if missing == 1 else "have no features; they score"
        told = "`avpipe quarantine ls` tells of clips that could not be used."
        notes.append(f"{missing} of {total} {be} as nothing found. {told}")
    if bare := sources.metrics.get("unlabelled"):
        be = "has no annotation and is" if bare == 1 else "have no annotation and are"
        notes.append(f"{counted(bare, 'more sample')} of {sources.split} {be} not scored.")
    if segments := sources.metrics.get("unlabelled_segments"):
        be = "has no mask and is" if segments == 1 else "have no mask and are"
        notes.append(f"{counted(segments, 'segment')} of scored samples {be} not scored.")
    if sources.split != "test":
        chosen = " The epoch was chosen on it." if sources.metrics.get("selection", "val") == sources.split else ""
        notes.append(f"These are scores on {sources.split}, not on test.{chosen}")
    return notes
