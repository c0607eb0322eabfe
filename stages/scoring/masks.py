"""Predictions of a mask for every segment: what binary masks and class maps share, and the binary ones."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from avpipe.pipeline.datasets.masks import read_mask
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Sample
from avpipe.stages.metrics import avs
from avpipe.stages.scoring.npz import Values
from avpipe.stages.scoring.npz_samples import read_npz
from avpipe.stages.scoring.pictures import Pictures, read_picture, read_pictures
from avpipe.stages.scoring.rules import Load, Rules, choose_protocol, require_numbers


class MaskRules(Rules):
    """What binary masks and class maps share; predictions are `[segments, H, W]`."""

    axes: ClassVar[dict[str, int]]
    """Arrays of an npz file, each a form of its own, with the axes of a segment's value."""
    classes: bool
    """Pictures hold class ids."""
    heavy = True
    first = 1
    """Number of the first segment in names of pictures."""

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        if self.kind == "table":
            raise self.refuse_kind()
        self.form = self.choose_form([(name,) for name in self.axes])[0] if self.kind == "npz" else ""
        self.sizes: set[tuple[int, int]] = set()
        self.highest = np.zeros(len(self.samples), dtype=np.uint8)

    def annotated(self, sample: Sample) -> bool:
        """Whether any segment has a mask."""
        return any(mask is not None for mask in sample.masks or ())

    def read(self) -> Iterator[tuple[int, Load]]:
        """See `Rules`."""
        if self.form:
            for place, arrays in read_npz(
                self.source, self.wanted, {self.form: self.axes[self.form]}, fits=self._check_first
            ):
                yield place, partial(self.decide, arrays[self.form])
        else:
            for place, pictures in read_pictures(self.source, self.wanted, self.first):
                yield place, partial(self._pictures, place, pictures)

    @abstractmethod
    def decide(self, values: Values) -> Values:
        """The prediction that an array of the chosen form stands for."""

    def check_size(self, place: int, shape: tuple[int, ...]) -> None:
        """Refuses an array whose values, of `shape` a segment, do not fit a sample that is to be scored."""

    def _check_first(self, place: int, shape: tuple[int, ...]) -> None:
        """Checks the size before any value is read, since there may be more of them than memory holds."""
        try:
            self.check_size(place, shape)
        except UsageError as error:
            raise UsageError(f"{self.source}: sample {self.samples[place].id!r}: {error}") from error

    def _pictures(self, place: int, pictures: Pictures) -> Values:
        """The pictures of a sample as one array, uint8; zeros where there is none."""
        wanted = [segment for segment, mask in enumerate(self.samples[place].masks or ()) if mask is not None]
        lacking = [segment for segment in wanted if segment >= len(pictures) or pictures[segment] is None]
        if lacking and not self.blank_missing:
            raise UsageError(
                f"there is no picture of segment {lacking[0] + self.first}: --missing blank scores it as nothing found"
            )
        self.lacking_segments[place] = len(lacking)
        read = {s: read_picture(path, classes=self.classes) for s, path in enumerate(pictures) if path is not None}
        shapes = {values.shape for values in read.values()}
        if len(shapes) > 1:
            raise UsageError(f"its pictures have several sizes: {', '.join(map(size_text, sorted(shapes)))}")
        shape = next(iter(shapes))
        self.highest[place] = max(int(values.max(initial=0)) for values in read.values())
        length = next((n for n in sorted(self.lengths(place)) if n >= len(pictures)), len(pictures))
        return np.stack([read.get(segment, np.zeros(shape, dtype=np.uint8)) for segment in range(length)])

    def truth(self, place: int) -> list[tuple[int, Path]]:
        """Segments of a sample that have a mask, and their files."""
        masks: Sequence[Path | None] = self.samples[place].masks or ()
        return [(segment, mask) for segment, mask in enumerate(masks) if mask is not None]

    def facts(self) -> dict[str, Any]:
        """`mask_size`: height and width at which was scored; None where masks differ."""
        return {"mask_size": list(next(iter(self.sizes))) if len(self.sizes) == 1 else None}


class SegmentationRules(MaskRules):
    """Predictions are probabilities `[T, H, W]` at the size of the masks. See `metrics.avs`."""

    forms = ("'logits' [segments, H, W]", "'probabilities' [segments, H, W]")
    axes: ClassVar = {"logits": 2, "probabilities": 2}
    classes = False

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        self.scorer = avs.AvsScorer(len(self.wanted.scored))

    def decide(self, values: Values) -> Values:
        """Probabilities from logits or probabilities."""
        require_numbers(values, self.form)
        return avs.probabilities(values) if self.form == "logits" else values

    def check_size(self, place: int, shape: tuple[int, ...]) -> None:
        """See `MaskRules`."""
        file = self.truth(place)[0][1]
        if (mask := read_mask(file)).shape != shape:
            raise UsageError(_other_size(shape, file, mask.shape))

    def add(self, place: int, prediction: Any) -> None:
        """See `Rules`. Masks of one sample may differ in size only where nothing is predicted."""
        parts = []
        for segment, file in self.truth(place):
            mask = read_mask(file)
            self.sizes.add((mask.shape[0], mask.shape[1]))
            own = np.zeros(mask.shape, dtype=np.float32) if prediction is None else prediction[segment]
            if own.shape != mask.shape:
                raise UsageError(_other_size(own.shape, file, mask.shape))
            if own.dtype == np.uint8 and not self.form:
                own = own.astype(np.float32) / np.float32(255)
            parts.append(avs.frame_scores(own[None], mask[None]))
        self.scorer.add_scores(self.index[place], avs.join(parts))

    def blank(self, place: int) -> None:
        """Nothing found: an empty mask in every segment."""
        return None

    def result(self, protocol: str | None) -> dict[str, Any]:
        """See `Rules`; `avsbench-batch<N>` takes any N.

        Raises:
            UsageError: pictures of 0 and 1, which would all count as off.
        """
        if not self.form and self.highest.max() == 1:
            raise UsageError(
                f"{self.source}: no pixel is above 1: pictures hold probability x 255, so masks are 0 and 255"
            )
        scores = self.scorer.result()
        if protocol is not None and re.fullmatch(r"avsbench-batch[1-9]\d*", protocol):
            scores["other_protocols"].setdefault(protocol, self.scorer.score(protocol))
        return choose_protocol(scores, protocol)


def size_text(shape: tuple[int, ...]) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape))


def _other_size(ours: tuple[int, ...], file: Path, truth: tuple[int, ...]) -> str:
    return f"its predictions are {size_text(ours)}, mask {file} is {size_text(truth)}"
