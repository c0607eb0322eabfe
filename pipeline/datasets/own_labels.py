"""From the usable rows of a user's own table to classes and labelled samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from avpipe.pipeline.datasets.own_events import Span, carried, events_of, one_class_each, past_end
from avpipe.pipeline.datasets.own_media import Found
from avpipe.pipeline.datasets.own_rows import BadRow, Entry
from avpipe.pipeline.datasets.own_settings import OwnSettings
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import BACKGROUND, Event, Question, Sample
from avpipe.pipeline.media.pictures import numbered

MASK_CLASSES = ("sounding object",)
ANY_TYPE = "all"
"""Type of a question that names none."""
_NUMBER = re.compile(r"(\d+)$")
_SHOWN = 3
"""Masks too many that a finding names."""


def classes_of(entries: Iterable[Entry], task: str, fixed: Sequence[str]) -> tuple[str, ...]:
    """Classes in order: those that the settings fix, else those of the rows by name; `background` last for events."""
    if task == "segmentation":
        return MASK_CLASSES
    if task == "qa":
        return tuple(fixed or sorted({entry.row["answer"] for entry in entries}))
    named = fixed or sorted({name for entry in entries for name in entry.names})
    return (*(n for n in named if n != BACKGROUND), BACKGROUND) if task == "events" else tuple(named)


class Labeller:
    """Makes samples of entries.

    Args:
        task: `events`, `parsing`, `segmentation` or `qa`.
        classes: class names in order.
        settings: the length of a segment.
    """

    def __init__(self, task: str, classes: Sequence[str], settings: OwnSettings) -> None:
        self._ids = {name: number for number, name in enumerate(classes)}
        self._seconds = settings.segment_seconds
        makers: Mapping[str, Callable[[Entry, Found, list[Finding]], Sample]] = {
            "events": self._events,
            "parsing": self._parsing,
            "segmentation": self._masks,
            "qa": self._question,
        }
        self._make = makers[task]

    def sample(self, entry: Entry, found: Found, findings: list[Finding]) -> Sample:
        """The sample of an entry; what is odd about it goes to `findings`.

        Raises:
            BadRow: its labels do not fit its clip.
        """
        if late := past_end(entry.spans, found.whole, self._seconds):
            end = f"{found.whole * self._seconds:g} s, where the clip ends"
            raise BadRow("bad-event", f"event {str(late)!r} goes on after {end}")
        return self._make(entry, found, findings)

    def _events(self, entry: Entry, found: Found, findings: list[Finding]) -> Sample:
        named = one_class_each(entry.spans, found.clip.segments, self._seconds)
        if isinstance(named, str):
            raise BadRow("bad-event", named)
        self._note_short(entry, entry.spans, {name for name in named if name}, found, findings)
        return Sample(entry.clip, entry.clip, entry.split, events=tuple(self._ids[n or BACKGROUND] for n in named))

    def _parsing(self, entry: Entry, found: Found, findings: list[Finding]) -> Sample:
        both = entry.events
        heard = self._dense(entry, _joined(both, entry.audio_events), found, findings)
        seen = self._dense(entry, _joined(both, entry.visual_events), found, findings)
        named = {self._ids[name] for name in dict.fromkeys(span.name for span in entry.spans)}
        labels = named if entry.labels is None else {self._ids[name] for name in entry.labels}
        if entry.split != "train" and entry.labels and not entry.spans and heard is not None:
            what = f"clip {entry.clip!r} has labels and no events"
            done = "scored as a clip in which nothing happens"
            findings.append(Finding("no-events", entry.row.where, what, done, NOTE))
        elif entry.labels is not None and heard is not None and named != labels:
            differ = ", ".join(sorted(name for name, number in self._ids.items() if number in named ^ labels))
            what = f"clip {entry.clip!r}: {differ} in its labels or in its events alone"
            findings.append(Finding("labels-differ", entry.row.where, what, "both are kept as they are", NOTE))
        weak, count = tuple(sorted(labels)), found.clip.segments
        return Sample(
            entry.clip, entry.clip, entry.split, labels=weak, audio_events=heard, visual_events=seen, segments=count
        )

    def _dense(
        self, entry: Entry, spans: tuple[Span, ...] | None, found: Found, findings: list[Finding]
    ) -> tuple[Event, ...] | None:
        if spans is None:
            return None
        carrying = carried(spans, found.clip.segments, self._seconds)
        self._note_short(entry, spans, {name for name, segments in carrying.items() if segments.any()}, found, findings)
        return tuple(event for name, segments in carrying.items() for event in events_of(self._ids[name], segments))

    def _note_short(
        self, entry: Entry, spans: Iterable[Span], kept: set[str], found: Found, findings: list[Finding]
    ) -> None:
        """Says which classes are lost: too short for any segment, or behind the cut."""
        for name in dict.fromkeys(span.name for span in spans if span.name not in kept):
            cut = found.clip.segments < found.whole
            why = "covers less than half of every segment" + (" that is used" if cut else "")
            finding = Finding("short-event", entry.row.where, f"{name!r} {why}", "no segment carries it", NOTE)
            if finding not in findings[-4:]:  # heard and seen alike
                findings.append(finding)

    def _masks(self, entry: Entry, found: Found, findings: list[Finding]) -> Sample:
        by_number: dict[int, Path] = {}
        files = [file for file in numbered(entry.masks) if file.suffix.lower() == ".png"] if entry.masks else []
        for file in files:
            match = _NUMBER.search(file.stem)
            number = int(match[1]) if match else 0
            if number == 0:
                raise BadRow("bad-mask", f"{file}: masks are numbered from 1, the first segment's")
            if number in by_number:
                what = f"is a second mask of segment {number}, beside {by_number[number].name}"
                findings.append(Finding("double-mask", str(file), what, "not used"))
            by_number.setdefault(number, file)
        if entry.masks and not files:
            lost = f"{entry.masks} " + ("has no PNG with a number" if entry.masks.is_dir() else "is no folder")
            findings.append(Finding("missing-masks", entry.row.where, lost, "the sample has no annotation"))
        if found.sure and (beyond := sorted(number for number in by_number if number > found.whole)):
            named = ", ".join(str(by_number[number]) for number in beyond[:_SHOWN]) + ", ..." * (len(beyond) > _SHOWN)
            length = f"{found.whole} segment{'s' * (found.whole != 1)}"
            what = f"masks past the end of clip {entry.clip!r}, which has {length}: {named}"
            findings.append(Finding("extra-mask", entry.row.where, what, "not used"))
        masks = tuple(by_number.get(segment + 1) for segment in range(found.clip.segments))
        return Sample(entry.clip, entry.clip, entry.split, masks=masks)

    def _question(self, entry: Entry, found: Found, findings: list[Finding]) -> Sample:
        row = entry.row
        question = Question(row["question"], (), row["type"] or ANY_TYPE, self._ids[row["answer"]])
        return Sample(f"{row.number}:{entry.clip}", entry.clip, entry.split, question=question)


def _joined(both: tuple[Span, ...] | None, one: tuple[Span, ...] | None) -> tuple[Span, ...] | None:
    """Events of one modality: those of its own column and those of both; None where there is neither column."""
    return None if both is None and one is None else (*(both or ()), *(one or ()))
