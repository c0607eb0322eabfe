"""Predictions of a class map for every segment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from avpipe.pipeline.datasets.masks import read_semantic_mask
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset
from avpipe.stages.metrics import avss
from avpipe.stages.metrics.avss_masks import EVAL_SIZE
from avpipe.stages.scoring.masks import MaskRules, size_text
from avpipe.stages.scoring.npz import Values
from avpipe.stages.scoring.rules import choose_protocol, require_ids, require_numbers

MOST_PIXELS = 1 << 24
"""Of a class map, 4096 x 4096: ten times the largest frames of the dataset and more."""


class SemanticRules(MaskRules):
    """Predictions are class ids `[T, H, W]`, all of one size, to which masks are squashed. See `metrics.avss`.

    Clips that are shorter than the protocol's ten frames are padded, see `metrics.avss`: the truth of the padding is
    background. What the model says to it is scored where it is given, else background is assumed.
    """

    forms = ("'predicted' class ids [segments, H, W]", "'scores' [segments, classes, H, W]")
    axes: ClassVar = {"predicted": 2, "scores": 3}
    classes = True
    first = 0

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        self.scorer = avss.AvssScorer(len(self.wanted.scored), classes=len(dataset.classes), frames=None)
        self.padded, self.assumed = (np.zeros(len(self.samples), dtype=np.int64) for _ in range(2))

    def lengths(self, place: int) -> tuple[int, ...]:
        """Its own number, or that of the padded clip."""
        own = super().lengths(place)[0]
        return (own, avss.FRAMES) if own < avss.FRAMES else (own,)

    def decide(self, values: Values) -> Values:
        """Class ids from ids or scores."""
        if self.form == "scores":
            require_numbers(values, "scores")
            if values.shape[1] != len(self.dataset.classes):
                raise UsageError(
                    f"array 'scores' has {values.shape[1]} classes, the dataset has {len(self.dataset.classes)}"
                )
            best: Values = np.argmax(values, axis=1).astype(np.uint8)
            return best
        return require_ids(values, len(self.dataset.classes), "predicted").astype(np.uint8)

    def check_size(self, place: int, shape: tuple[int, ...]) -> None:
        """See `MaskRules`: masks are squashed to the size of predictions, so that is bounded."""
        if math.prod(shape[-2:]) > MOST_PIXELS:
            raise UsageError(
                f"predictions are {size_text(shape[-2:])}, more than {MOST_PIXELS} pixels: resize them, 224 x 224 "
                "officially"
            )

    def add(self, place: int, prediction: Any) -> None:
        """See `Rules`."""
        rows, own = self.truth(place), super().lengths(place)[0]
        size = prediction.shape[1:] if prediction is not None else next(iter(self.sizes), EVAL_SIZE)
        self.check_size(place, size)
        self.sizes.add(size)
        if len(self.sizes) > 1:
            sizes = ", ".join(map(size_text, sorted(self.sizes)))
            raise UsageError(f"predictions have several sizes ({sizes}): resize them to one, 224 x 224 officially")
        self.padded[place] = length = max(0, avss.FRAMES - own)
        truth = [read_semantic_mask(file, size) for _, file in rows]
        truth += [np.zeros(size, dtype=np.uint8)] * length
        if prediction is None or len(prediction) == own:
            self.assumed[place] = length
        if prediction is None:
            ours = np.zeros((len(truth), *size), dtype=np.uint8)
        else:
            padding = prediction[own:] if len(prediction) > own else np.zeros((length, *size), dtype=np.uint8)
            ours = np.concatenate([prediction[[segment for segment, _ in rows]], padding])
        self.scorer.add(self.index[place], ours, np.stack(truth))

    def blank(self, place: int) -> None:
        """Nothing found: background everywhere."""
        return None

    def result(self, protocol: str | None) -> dict[str, Any]:
        """See `Rules`."""
        counts = {"padded_frames": int(self.padded.sum()), "assumed_frames": int(self.assumed.sum())}
        return choose_protocol({**self.scorer.result(), **counts}, protocol)
