"""LLP's dense labels: what is heard, or what is seen, in the videos for validation and testing, and when."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from avpipe.pipeline.datasets.tables import Columns, Row, read_table
from avpipe.pipeline.datasets.text import at_line
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Event

_COLUMNS = ("filename", "onset", "offset", "event_labels")
_WHOLE = re.compile(r"\d+(\.0*)?")


@dataclass(frozen=True, slots=True)
class DenseRow:
    """A row whose values make sense; whether `name` is a video is another matter."""

    name: str
    event: Event
    line: int


@dataclass
class Dense:
    """Dense labels of one modality.

    Attributes:
        path: their table.
        events: of every row that names a video, by its name, in the order of the file; also those that mark nothing.
        orphans: rows whose name is that of no video.
        lost: every value of the rows that were left out, so that classes and videos may be lacking elsewhere.
        findings: on its rows, but for orphans.
        count: rows that the table has.
        unread: how many rows were left out for what stands in them.
    """

    path: Path
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    orphans: list[DenseRow] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    unread: int = 0


def read_dense(
    path: Path, names: Collection[str], classes: tuple[str, ...], segments: int, reversed_names: Collection[str]
) -> Dense:
    """Reads one table of dense labels.

    Args:
        path: the table.
        names: names of the videos.
        classes: names of the classes.
        segments: of a clip.
        reversed_names: videos that have an event in the official file that ends before it starts.

    Raises:
        UnusableAnnotations: the file is missing or is no such table.
    """

    def fits(row: Row) -> bool:  # a row may end before it starts, but not most of them: then the columns are swapped
        return _fault(row, classes, segments) is None and float(row["onset"]) <= float(row["offset"])

    columns = Columns(_COLUMNS, _COLUMNS, fits, delimiter="\t")
    table = read_table(path, columns)
    dense = Dense(path, findings=list(table.findings), count=table.count)
    dense.lost.update(value for fields in table.broken for value in fields)
    rows: list[DenseRow] = []
    for line, values in table.rows:
        name, label = values["filename"], values["event_labels"]
        fault = _fault(values, classes, segments)
        if fault is not None:
            left_out = f"row left out: {' '.join(values[column] for column in _COLUMNS)!r}"
            dense.findings.append(Finding(fault[0], at_line(path, line), fault[1], left_out))
            dense.lost.update(values.values())
            continue
        start, end = (int(float(values[column])) for column in ("onset", "offset"))
        row = DenseRow(name, Event(classes.index(label), start, end), line)
        (rows if name in names else dense.orphans).append(row)
    dense.unread = dense.count - len(rows) - len(dense.orphans)
    _collect(dense, rows, reversed_names)
    return dense


def _fault(values: Row, classes: tuple[str, ...], segments: int) -> tuple[str, str] | None:
    """Kind and words of what is wrong with a row by itself."""
    onset, offset, label = values["onset"], values["offset"], values["event_labels"]
    if not (_WHOLE.fullmatch(onset) and _WHOLE.fullmatch(offset)):
        return "broken-row", f"onset {onset!r} and offset {offset!r} are no whole seconds"
    if max(float(onset), float(offset)) > segments:
        return "past-the-end", f"onset {onset} and offset {offset} go past the end of a {segments} s clip"
    return None if label in classes else ("unknown-class", f"unknown class {label!r}")


def _collect(dense: Dense, rows: Sequence[DenseRow], reversed_names: Collection[str]) -> None:
    """Takes over the events of rows, and names rows that mark nothing, are there twice, or run into one another."""
    counted: dict[tuple[str, int], list[DenseRow]] = defaultdict(list)
    for row in rows:
        event, where = row.event, at_line(dense.path, row.line)
        dense.events[row.name] = (*dense.events.get(row.name, ()), event)
        times = f"event from {event.start} to {event.end} of {row.name}"
        before = counted[row.name, event.class_id]
        same = next((other for other in before if other.event == event), None)
        if event.start > event.end and row.name not in reversed_names:
            dense.findings.append(Finding("reversed-event", where, times, "it marks nothing"))
        elif event.start >= event.end:
            done = "it marks nothing, as in the official protocol"
            dense.findings.append(Finding("empty-event", where, times, done, NOTE))
        elif same is not None:
            what, done = f"the same row as line {same.line}", "it changes nothing, as in the official protocol"
            dense.findings.append(Finding("duplicate-row", where, what, done, NOTE))
        else:
            before.append(row)
    for counting in counted.values():
        in_time = sorted(counting, key=lambda row: (row.event.start, row.event.end))
        neighbours = [(one, two) for one, two in pairwise(in_time) if two.event.start <= one.event.end]
        dense.findings += [_joined(one, two, dense.path) for one, two in neighbours]


def _joined(one: DenseRow, two: DenseRow, path: Path) -> Finding:
    """On two rows of one class, one after the other in time, with no second between them."""
    word = "touches" if two.event.start == one.event.end else "overlaps"
    what = f"event from {two.event.start} to {two.event.end} of {two.name} {word} that of line {one.line}"
    done = "the two are one event, as in the official protocol"
    return Finding("joined-events", at_line(path, two.line), what, done, NOTE)
