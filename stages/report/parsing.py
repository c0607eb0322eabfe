"""Video parsing in a report: what is heard and seen in a clip beside what was predicted, and how each class fares.

Legend: T segments, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.config import MODALITIES
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks.parsing import Parsed, ParsingTask


def parsed(sources: Sources, index: int) -> Parsed:
    """The stored prediction of one sample."""
    start, end = sources.starts[index : index + 2]
    stored = sources.predictions
    return Parsed(stored["segment_probability"][start:end], stored["video_probability"][index])


def entry(sources: Sources, task: ParsingTask, index: int) -> dict[str, Any]:
    """What the page says of one sample: its score, segment-level Type@AV, and its lanes.

    A lane is a class that is true or predicted somewhere in a modality: `class`, `truth` and `predicted` (0 or 1 by
    segment), `chance` (probability by segment) and `whole` (probability of the class in the whole clip, which gates
    the segments). Classes that are true come first.
    """
    prediction = parsed(sources, index)
    known = zip(MODALITIES, task.truth(index), task.decide(prediction), strict=True)
    lanes = {}
    for place, (modality, truth, predicted) in enumerate(known):
        chance = prediction.segment[:, place].T
        shown = np.flatnonzero((truth | predicted).any(axis=1))
        lanes[modality] = [
            {
                "class": int(number),
                "truth": truth[number].astype(int).tolist(),
                "predicted": predicted[number].astype(int).tolist(),
                "chance": [round(float(value), 3) for value in chance[number]],
                "whole": round(float(prediction.video[number]), 3),
            }
            for number in sorted(shown, key=lambda number: not truth[number].any())
        ]
    return {"score": float(task.values(index, prediction).mean()), "segments": len(prediction.segment), "lanes": lanes}


def class_scores(sources: Sources, task: ParsingTask) -> list[dict[str, Any]]:
    """Segments of each class that occurs, by modality, over the whole split: `true`, `predicted`, `hits` and `f`.

    `f` is the F1 of these sums. The official numbers are means over videos, so they are other numbers.
    """
    counts = np.zeros((len(MODALITIES), task.classes, 3), dtype=np.int64)  # hits, true, predicted
    for index in range(len(sources.samples)):
        maps = zip(task.truth(index), task.decide(parsed(sources, index)), strict=True)
        for place, (truth, predicted) in enumerate(maps):
            each = (truth & predicted, truth, predicted)
            counts[place] += np.stack([one.sum(axis=1) for one in each], axis=1)
    found = []
    for number in np.flatnonzero(counts.sum(axis=(0, 2))):
        by_modality = {m: _sums(counts[place, number]) for place, m in enumerate(MODALITIES)}
        found.append({"class": int(number), **by_modality})
    return found


def same_everywhere(sources: Sources, task: ParsingTask) -> str:
    """What the model hears, or sees, in all segments of the split alike, in words; else an empty text.

    Only modalities that the model was trained on are asked about.
    """
    maps = [task.decide(parsed(sources, index)) for index in range(len(sources.starts) - 1)]
    said = []
    for place, (modality, verb) in enumerate(zip(MODALITIES, ("hears", "sees"), strict=True)):
        every = np.concatenate([one[place] for one in maps], axis=1)  # C, all segments
        if modality in sources.config.train.modalities and (every == every[:, :1]).all():
            said.append(f"{verb} {_names(sources, every[:, 0])}")
    return " and ".join(said)


def _names(sources: Sources, on: npt.NDArray[np.bool_]) -> str:
    return ", ".join(sources.config.classes[number] for number in np.flatnonzero(on)) or "nothing"


def _sums(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    hits, true, predicted = (int(value) for value in counts)
    f = 2 * hits / (true + predicted) if true + predicted else None
    return {"true": true, "predicted": predicted, "hits": hits, "f": f}
