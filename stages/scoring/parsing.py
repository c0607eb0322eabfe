"""Predictions of what is heard and what is seen, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import Dataset, Event, Sample
from avpipe.stages.metrics import llp
from avpipe.stages.scoring.npz import Values
from avpipe.stages.scoring.npz_samples import read_npz
from avpipe.stages.scoring.rules import Load, Rules, choose_protocol, class_id, class_places, require_numbers
from avpipe.stages.scoring.tables import Row, read_rows

Maps = tuple[Values, Values]
"""Audio and visual, bool `[classes, T]`."""
_BINARY, _GATED = ("audio", "visual"), ("segment_probability", "video_probability")
MODALITIES = ("audio", "visual")


class ParsingRules(Rules):
    """Predictions are two maps `[classes, T]`. See `metrics.llp`."""

    forms = (
        "'audio' and 'visual' [segments, classes], 0 or 1",
        "'segment_probability' [segments, 2, classes] (audio, visual) and 'video_probability' [samples, classes]",
    )
    lacking = "none has dense events, and weak labels are not enough for the official metric"

    def __init__(self, dataset: Dataset, split: str, source: Path, *, blank_missing: bool) -> None:
        super().__init__(dataset, split, source, blank_missing=blank_missing)
        if self.kind == "folder":
            raise self.refuse_kind()
        self.form = self.choose_form((_BINARY, _GATED)) if self.kind == "npz" else ()
        self.scorer = llp.LlpScorer(len(self.wanted.scored))

    def annotated(self, sample: Sample) -> bool:
        """Whether it has dense events of both modalities."""
        return sample.audio_events is not None and sample.visual_events is not None

    def read(self) -> Iterator[tuple[int, Load]]:
        """See `Rules`."""
        if not self.form:
            yield from self._table()
        elif self.form == _BINARY:
            for place, arrays in read_npz(self.source, self.wanted, {"audio": 1, "visual": 1}):
                yield place, partial(self._binary, arrays)
        else:
            sizes = {"segment_probability": 2}, {"video_probability": 1}
            for place, arrays in read_npz(self.source, self.wanted, *sizes):
                yield place, partial(self._gated, arrays)

    def _binary(self, arrays: dict[str, Values]) -> Maps:
        for name, values in arrays.items():
            require_numbers(values, name)
            self._require_classes(name, values)
            if not ((values == 0) | (values == 1)).all():
                raise UsageError(f"array {name!r} must hold 0 and 1 (probabilities go into 'segment_probability')")
        return arrays["audio"].T != 0, arrays["visual"].T != 0

    def _gated(self, arrays: dict[str, Values]) -> Maps:
        for name, values in arrays.items():
            require_numbers(values, name)
            self._require_classes(name, values)
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise UsageError(f"array {name!r} holds values outside 0 to 1")
        segments = arrays["segment_probability"]
        if segments.shape[1] != len(MODALITIES):
            raise UsageError(
                f"array 'segment_probability' has {segments.shape[1]} modalities: audio and visual are needed"
            )
        maps = llp.gate(segments.transpose(1, 2, 0), np.stack([arrays["video_probability"]] * 2))
        return maps[0], maps[1]

    def _require_classes(self, name: str, values: Values) -> None:
        if values.shape[-1] != len(self.dataset.classes):
            raise UsageError(
                f"array {name!r} has {values.shape[-1]} classes, the dataset has {len(self.dataset.classes)}"
            )

    def _table(self) -> Iterator[tuple[int, Load]]:
        """Rows `id, modality, class, onset, offset`; a row with nothing but an id: nothing was found."""
        known = class_places(self.dataset.classes)
        found: dict[int, list[tuple[int, Event]]] = {}
        for row in read_rows(self.source, ("id", "modality", "class", "onset", "offset")):
            place = self.wanted.names.place(row.text("id"), row.where)
            events = found.setdefault(place, [])
            if any(row.text(column) for column in ("modality", "class", "onset", "offset")):
                events.append(_event(row, known, self.lengths(place)[0]))
        for place, events in found.items():
            yield place, partial(self._maps, place, events)

    def _maps(self, place: int, events: list[tuple[int, Event]]) -> Maps:
        audio, visual = (self.map_of(place, (e for m, e in events if m == wanted)) for wanted in (0, 1))
        return audio, visual

    def map_of(self, place: int, events: Iterable[Event]) -> Values:
        """The map `[classes, T]` of events."""
        return llp.event_map(events, len(self.dataset.classes), self.lengths(place)[0])

    def add(self, place: int, prediction: Any) -> None:
        """See `Rules`."""
        sample = self.samples[place]
        truth = (self.map_of(place, sample.audio_events or ()), self.map_of(place, sample.visual_events or ()))
        self.scorer.add(self.index[place], prediction[0], prediction[1], truth[0], truth[1])

    def blank(self, place: int) -> Maps:
        """Nothing heard, nothing seen."""
        return self.map_of(place, ()), self.map_of(place, ())

    def result(self, protocol: str | None) -> dict[str, Any]:
        """See `Rules`."""
        return choose_protocol(self.scorer.result(), protocol)

    def printed(self, scores: dict[str, Any]) -> list[str]:
        """The ten lines of the official program, in percent with one decimal."""
        return llp.printed(scores)


def _event(row: Row, known: dict[str, int], segments: int) -> tuple[int, Event]:
    """Modality (0 audio, 1 visual) and event of a row.

    Raises:
        UsageError: it cannot be used.
    """
    modality = row.text("modality").lower()
    if modality not in MODALITIES:
        raise UsageError(f"{row.where}: {unknown_name('modality', row.text('modality'), MODALITIES)}")
    start, end = row.whole("onset"), row.whole("offset")
    if not 0 <= start < end <= segments:
        raise UsageError(
            f"{row.where}: {start} to {end} is no stretch within 0 to {segments} (offset is the first segment after it)"
        )
    return MODALITIES.index(modality), Event(class_id(row.text("class"), known, row.where), start, end)
