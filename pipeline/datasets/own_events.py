"""Events in seconds, as a user's own table has them, on the segments of a clip.

    Dog@0.5-3;Church bell@2-7.25        class@onset-offset, joined by ";"; classes may hold "@", "-" and commas

A segment carries a class if at least half of it is covered by events of the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avpipe.pipeline.errors import shown
from avpipe.pipeline.manifest import BACKGROUND, Event

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+))"
_EVENT = re.compile(rf"(.+)@\s*{_NUMBER}\s*-\s*{_NUMBER}")
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Span:
    """A class from second `onset` to second `offset`."""

    name: str
    onset: float
    offset: float

    def __str__(self) -> str:
        return f"{self.name}@{self.onset:g}-{self.offset:g}"


def parse(text: str) -> tuple[Span, ...] | str:
    """Events of a cell, `background` left out; or what is wrong with it."""
    spans = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _EVENT.fullmatch(part)
        if match is None:
            return f"event {shown(part)} is not written as class@onset-offset, in seconds"
        span = Span(match[1].strip(), float(match[2]), float(match[3]))
        if span.onset < 0:
            return f"event {shown(part)} begins before the clip"
        if span.offset < span.onset:
            return f"event {shown(part)} ends before it begins"
        if not span.name:
            return f"event {shown(part)} has no class"
        if span.name != BACKGROUND:
            spans.append(span)
    return tuple(spans)


def past_end(spans: Iterable[Span], segments: int, seconds: float) -> Span | None:
    """The first event that ends past the media of a clip that rounds to so many segments, None where none does."""
    end = (segments + 0.5) * seconds + _ROUNDING
    return next((span for span in spans if span.offset > end), None)


def carried(spans: Iterable[Span], segments: int, seconds: float) -> dict[str, NDArray[np.bool_]]:
    """Classes with the segments that carry them: bool [T] each, classes in the order of their first event."""
    return {name: _is_half(share) for name, share in _shares(spans, segments, seconds).items()}


def one_class_each(spans: Sequence[Span], segments: int, seconds: float) -> list[str | None] | str:
    """The one class of every segment, None for background; or which segment has two.

    Where two classes share a segment half and half, without being there at once, it belongs to the first.
    """
    shares = _shares(spans, segments, seconds)
    named = [[name for name, share in shares.items() if _is_half(share[t])] for t in range(segments)]
    for t, names in enumerate(named):
        if len(names) > 1 and sum(float(shares[name][t]) for name in names) > 1 + _ROUNDING:
            return (
                f"{names[0]!r} and {names[1]!r} are both in segment {t} ({t * seconds:g} to {(t + 1) * seconds:g} s), "
                "where this task has one class: --task parsing has several"
            )
    return [_first(names, spans, t * seconds) if names else None for t, names in enumerate(named)]


def events_of(class_id: int, carrying: NDArray[np.bool_]) -> list[Event]:
    """One class as events: each run of segments that carry it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], carrying, [False]]).astype(np.int8)))
    return [Event(class_id, int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _first(names: Sequence[str], spans: Iterable[Span], begin: float) -> str:
    """The class that is there first, of those in the segment that begins at second `begin`."""
    there = [(max(span.onset, begin), span.name) for span in spans if span.name in names and span.offset > begin]
    return min(there)[1]


def _shares(spans: Iterable[Span], segments: int, seconds: float) -> dict[str, NDArray[np.float64]]:
    """How much of each segment each class covers, 0 to 1, float [T]."""
    by_class: dict[str, list[Span]] = {}
    for span in spans:
        by_class.setdefault(span.name, []).append(span)
    starts = np.arange(segments) * seconds
    shares = {}
    for name, own in by_class.items():
        covered = np.zeros(segments)
        for onset, offset in _merged(own):
            covered += np.clip(np.minimum(offset, starts + seconds) - np.maximum(onset, starts), 0, None)
        shares[name] = covered / seconds
    return shares


def _merged(spans: Iterable[Span]) -> list[tuple[float, float]]:
    """Stretches that the events of one class cover, overlaps counted once."""
    merged: list[tuple[float, float]] = []
    for onset, offset in sorted((span.onset, span.offset) for span in spans):
        if merged and onset <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], offset)
        else:
            merged.append((onset, offset))
    return merged


def _is_half(share: NDArray[np.float64]) -> NDArray[np.bool_]:
    half: NDArray[np.bool_] = share >= 0.5 - _ROUNDING
    return half
