"""The text files of AVE: one row a line, "&" between its fields, with or without a header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.text import at_line, gather, is_file_name, read_lines
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import NOTE, Finding

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
_COLUMNS = tuple(name.lower() for name in HEADER.split("&"))


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation: `category` from second `start` to second `end` of video `video`."""

    category: str
    video: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.video}, {self.category}, {self.start} to {self.end}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and where it stands: its number, from 0 and without headers, and its line, from 1."""

    row: Row
    number: int
    where: str


@dataclass(frozen=True)
class AveFile:
    """A file as read.

    Attributes:
        rows: every row that can be used; the others keep their numbers.
        broken: fields of every other row.
        findings: on the other rows and on headers that should not be.
        there: False where the file could not be read at all.
    """

    rows: tuple[Placed, ...]
    broken: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...]
    there: bool = True

    @property
    def count(self) -> int:
        """Rows that it has, broken ones among them."""
        return len(self.rows) + len(self.broken)


def read_rows(path: Path, classes: tuple[str, ...], segments: int, *, headed: bool) -> AveFile:
    """Reads one file.

    Args:
        path: Annotations.txt or one of the Set files.
        classes: names of the classes, background last.
        segments: seconds of a clip.
        headed: whether the archive's file has a header. One that is there or not is no fault in either case: both are
            met, and a fixed choice would shift every label. A header in another place or with other names is one.

    Raises:
        UnusableAnnotations: the file is missing or is no text.
    """
    lines = [(n, _fields(line)) for n, line in enumerate(read_lines(path), start=1) if line.strip()]
    findings: list[Finding] = []
    order = tuple(range(len(_COLUMNS)))
    if lines and _is_header(lines[0][1], classes):
        number, names = lines.pop(0)
        order = _order(path, number, names, [fields for _, fields in lines], classes, segments, findings)
        if not headed and not findings:
            done = "passed over; the archive's own file has none"
            findings.append(Finding("header", at_line(path, number), "a header", done, NOTE))
    rows, broken = [], []
    place = 0
    for number, fields in lines:
        where = at_line(path, number)
        if _names(fields) == _COLUMNS:
            findings.append(Finding("doubled-header", where, "a header among the rows", "line passed over"))
            continue
        row = _parse(tuple(fields[i] for i in order) if len(fields) == len(order) else fields, classes, segments)
        if isinstance(row, Row):
            rows.append(Placed(row, place, where))
        else:
            broken.append(fields)
            findings.append(Finding(row[0], where, row[1], f"row left out: {'&'.join(fields)!r}"))
        place += 1
    return AveFile(tuple(rows), tuple(broken), tuple(gather(findings, path, place)))


def read_set(path: Path, split: str, classes: tuple[str, ...], segments: int) -> AveFile:
    """Reads the Set file of a split; one that is missing or is no text is a finding, and costs that split alone."""
    try:
        return read_rows(path, classes, segments, headed=False)
    except UnusableAnnotations as error:
        kind = "unusable" if path.is_file() else "missing-table"
        return AveFile((), (), (Finding(kind, str(path), error.what, f"there is no {split} split"),), there=False)


def _fields(line: str) -> tuple[str, ...]:
    return tuple(field.strip() for field in line.split("&"))


def _names(fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(field.lower() for field in fields)


def _is_header(fields: tuple[str, ...], classes: tuple[str, ...]) -> bool:
    """Whether a first line names columns: it has fields, and none is a number or a class."""
    return len(fields) > 1 and not any(field.lstrip("-").isdecimal() or field in classes for field in fields)


def _order(
    path: Path,
    line: int,
    header: tuple[str, ...],
    rows: list[tuple[str, ...]],
    classes: tuple[str, ...],
    segments: int,
    findings: list[Finding],
) -> tuple[int, ...]:
    """Which field is which column: as in the archive, or as the header says where only that fits the rows."""
    official = tuple(range(len(_COLUMNS)))
    names = _names(header)
    if names == _COLUMNS:
        return official
    if sorted(names) == sorted(_COLUMNS):
        said = tuple(names.index(column) for column in _COLUMNS)
        fits = {
            order: sum(isinstance(_parse(tuple(r[i] for i in order), classes, segments), Row) for r in whole)
            for whole in [[row for row in rows if len(row) == len(official)]]
            for order in (official, said)
        }
        if fits[said] > fits[official]:
            what, done = f"columns in another order, {'&'.join(header)!r}", "read as the header says"
            findings.append(Finding("header", at_line(path, line), what, done, NOTE))
            return said
    what, done = f"the header {'&'.join(header)!r} is not {HEADER!r}", "rows read in the official order"
    findings.append(Finding("wrong-header", at_line(path, line), what, done))
    return official


def _parse(fields: tuple[str, ...], classes: tuple[str, ...], segments: int) -> Row | tuple[str, str]:
    """The row on a line, or kind and words of what is wrong with it."""
    if len(fields) != len(_COLUMNS):
        return "broken-row", f"{len(fields)} fields instead of {len(_COLUMNS)}"
    category, video, _, start, end = fields
    if category not in classes[:-1]:
        return "unknown-class", f"unknown category {category!r}"
    if not is_file_name(video):
        return "bad-id", f"{video!r} is no video id"
    if not (start.isdecimal() and end.isdecimal()):
        return "broken-row", f"start {start} and end {end} are no whole seconds"
    if int(start) > int(end):
        return "reversed-event", f"start {start} and end {end}: it ends before it starts"
    if int(end) > segments:
        return "past-the-end", f"start {start} and end {end} go past the end of a {segments} s clip"
    return Row(category, video, int(start), int(end))
