"""Predictions of a class for every segment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset, Sample
from avpipe.stages.metrics import ave
from avpipe.stages.scoring.npz import Values
from avpipe.stages.scoring.npz_samples import read_npz
from avpipe.stages.scoring.rules import Load, Rules, choose_protocol, class_id, class_places, require_ids
from avpipe.stages.scoring.rules import require_numbers as numbers
from avpipe.stages.scoring.tables import read_rows

_AXES = {"scores": 1, "predicted": 0, "event_logit": 0}
_TWO_HEADS = ("event_logit", "class_logit")
_BOTH = ("scores", "predicted")
"""As `evaluate` writes them: one must follow from the other."""
_ALL = (*_TWO_HEADS, *_BOTH)
"""The same of a model with two heads."""
_FORMS = (_ALL, _TWO_HEADS, _BOTH, ("scores",), ("predicted",))


class EventsRules(Rules):
    """Predictions are class ids `[T]`; background is the last class. See `metrics.ave`."""

    forms = (
        "'scores' [segments, classes]",
        "'predicted' class ids [segments]",
        "'event_logit' [segments] and 'class_logit' [samples, classes without background]",
    )

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        if self.kind == "folder":
            raise self.refuse_kind()
        self.form = self.choose_form(_FORMS) if self.kind == "npz" else ()
        self.scorer = ave.AveScorer(len(self.wanted.scored), two_head="class_logit" in self.form)

    def annotated(self, sample: Sample) -> bool:
        """Whether it has a class for each segment."""
        return sample.events is not None

    def read(self) -> Iterator[tuple[int, Load]]:
        """See `Rules`."""
        if not self.form:
            yield from self._table()
            return
        of_segments = {name: _AXES[name] for name in self.form if name in _AXES}
        of_samples = {"class_logit": 1} if "class_logit" in self.form else None
        for place, arrays in read_npz(self.source, self.wanted, of_segments, of_samples):
            yield place, partial(self._decide, arrays)

    def _decide(self, arrays: dict[str, Values]) -> Values:
        """Class ids from the arrays of one sample."""
        classes = len(self.dataset.classes)
        if self.form == ("predicted",):
            return require_ids(arrays["predicted"], classes, "predicted")
        for name, values in arrays.items():
            numbers(values, name)
            columns = {"scores": classes, "class_logit": classes - 1}.get(name)
            if columns is not None and values.shape[-1] != columns:
                raise UsageError(f"array {name!r} has {values.shape[-1]} columns for {columns} classes")
        found: dict[str, Values] = {name: arrays[name] for name in ("predicted",) if name in arrays}
        if "scores" in arrays:
            found["scores"] = ave.decide(arrays["scores"])
        if "event_logit" in arrays:
            event, kind = arrays["event_logit"][None], arrays["class_logit"][None]
            found["event_logit"] = ave.decide_two_head(event, kind, background=classes - 1)[0]
        name, decided = found.popitem()
        for other, ids in found.items():
            if (differ := np.flatnonzero(decided != ids)).size:
                raise UsageError(f"{name!r} and {other!r} disagree about segment {differ[0]}: keep one of the arrays")
        return decided

    def _table(self) -> Iterator[tuple[int, Load]]:
        """Rows `id, segment, predicted`."""
        known = class_places(self.dataset.classes)
        found: dict[int, dict[int, int]] = {}
        for row in read_rows(self.source, ("id", "segment", "predicted")):
            place, segment = self.wanted.names.place(row.text("id"), row.where), row.whole("segment")
            if not 0 <= segment < self.lengths(place)[0]:
                last = self.lengths(place)[0] - 1
                raise UsageError(f"{row.where}: segment {segment} does not exist, they go from 0 to {last}")
            own = found.setdefault(place, {})
            if segment in own:
                raise UsageError(f"{row.where}: segment {segment} of {row.text('id')!r} is predicted twice")
            own[segment] = class_id(row.text("predicted"), known, row.where)
        for place, own in found.items():
            yield place, partial(self._complete, place, own)

    def _complete(self, place: int, own: dict[int, int]) -> Values:
        ids = self.blank(place)
        lacking = sorted(set(range(len(ids))) - set(own))
        if lacking and not self.blank_missing:
            raise UsageError(f"no prediction of segment {lacking[0]}: --missing blank scores it as background")
        self.lacking_segments[place] = len(lacking)
        ids[list(own)] = list(own.values())
        return ids

    def add(self, place: int, prediction: Any) -> None:
        """See `Rules`."""
        self.scorer.add(self.index[place], prediction, np.asarray(self.samples[place].events))

    def blank(self, place: int) -> Values:
        """Background everywhere."""
        return np.full(self.lengths(place)[0], len(self.dataset.classes) - 1, dtype=np.int64)

    def result(self, protocol: str | None) -> dict[str, Any]:
        """See `Rules`; `ave-two-head-batch<N>` takes any N."""
        scores = self.scorer.result()
        batch = re.fullmatch(rf"{ave.TWO_HEAD_PROTOCOL}-batch([1-9]\d*)", protocol or "")
        if batch and self.scorer.two_head:
            named = self.scorer.batch_result(int(batch[1]))
            scores["other_protocols"][named["protocol"]] = named
        return choose_protocol(scores, protocol)
