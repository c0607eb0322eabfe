"""Annotation tables: rows by column, whatever happened to the header, and a finding for every row that is broken.

A header that does not go with its rows is named once, as the fault; the rows are still read where their meaning is
certain, because they fit the official order of the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.csv_lines import Record
from avpipe.pipeline.datasets.csv_lines import records as split_lines
from avpipe.pipeline.datasets.text import at_line, gather, read_lines
from avpipe.pipeline.errors import UnusableAnnotations, shown
from avpipe.pipeline.findings import NOTE, Finding

Row = dict[str, str]
"""One row of a table: values by column."""

_TRIED = 500
"""Rows by which a header is judged."""


@dataclass(frozen=True)
class Columns:
    """What is known of a table.

    Attributes:
        official: its columns in official order.
        needed: those of which values are read.
        fits: `(row) -> bool`, whether the values could be those of their columns.
        delimiter: between fields; quotes have a meaning with commas only.
        optional: columns whose values are read where there are any.
    """

    official: tuple[str, ...]
    needed: tuple[str, ...]
    fits: Callable[[Row], bool]
    delimiter: str = ","
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table as read.

    Attributes:
        rows: line number (from 1) and needed values of every row that is complete, values without blanks around them.
        findings: on its header and on its other rows.
        count: rows that the file has, complete or not.
        broken: fields of the rows that are not complete.
    """

    rows: tuple[tuple[int, Row], ...]
    findings: tuple[Finding, ...]
    count: int
    broken: tuple[tuple[str, ...], ...] = ()

    def told(self, path: Path, more: list[Finding]) -> list[Finding]:
        """Its findings and `more` on its rows; one finding for a flood of them, see `gather`."""
        return gather([*self.findings, *more], path, self.count)


def read_table(path: Path, columns: Columns) -> Table:
    """Reads a table.

    Args:
        path: a text file with one row a line; a byte order mark, either end of line and blank lines are fine.
        columns: what is known of it.

    Raises:
        UnusableAnnotations: the file is missing or no text, or neither its header nor the official order fits its rows.
    """
    records = list(split_lines(read_lines(path), columns.delimiter))
    if not records:
        raise UnusableAnnotations(path, f"is empty: its header is {_joined(columns.official, columns)!r}")
    header = _names(records[0])
    places, width, findings = _places(path, header, records, columns)
    headers, body = {columns.official}, records
    if not any(finding.kind == "missing-header" for finding in findings):
        headers, body = {columns.official, header}, records[1:]
    rows, broken = [], []
    for record in body:
        if _names(record) in headers:
            findings = _misplaced(findings, at_line(path, record.line))
            continue
        fault = record.fault or _wrong_width(record, width)
        if fault:
            left_out = f"row left out: {shown(record.text)}"
            findings.append(Finding("broken-row", at_line(path, record.line), fault, left_out))
            broken.append(tuple(field.strip() for field in record.fields))
        else:
            rows.append((record.line, _values(record, places)))
    if not body:
        findings.append(Finding("empty-table", str(path), "a header and no rows"))
    return Table(tuple(rows), tuple(findings), len(body), tuple(broken))


def _places(
    path: Path, header: tuple[str, ...], records: list[Record], columns: Columns
) -> tuple[dict[str, int], int, list[Finding]]:
    """Where each needed column is, how many fields a row has, and what is wrong with the header."""
    read = (*columns.needed, *columns.optional)
    official = {name: columns.official.index(name) for name in read}
    by_name = {name: header.index(name) for name in read if header.count(name) == 1}
    body = records[1 : 1 + _TRIED]
    fit_official = _fitting(body, official, len(columns.official), columns)
    if set(columns.needed) <= set(by_name):
        if by_name == official and len(header) == len(columns.official):
            return official, len(header), []
        if _fitting(body, by_name, len(header), columns) >= fit_official:
            return by_name, len(header), _turned(path, records[0], by_name, official)
    first, expected = at_line(path, records[0].line), _joined(columns.official, columns)
    if _fitting(records[:1], official, len(columns.official), columns):
        what = f"no header, which would be {expected!r}"
        return official, len(columns.official), [Finding("missing-header", first, what, "read in the official order")]
    if body and fit_official * 2 >= len(body):
        what = f"the header {shown(records[0].text)} does not go with the rows, which fit {expected!r}"
        return official, len(columns.official), [Finding("wrong-header", first, what, "read in the official order")]
    lacking = [name for name in columns.needed if name not in by_name]
    what = f"has no column {', '.join(lacking)}" if lacking else "has rows that do not fit its header"
    raise UnusableAnnotations(
        path, f"{what}; its header is {shown(records[0].text)}, expected {expected!r}: fetch the file again"
    )


def _turned(path: Path, header: Record, by_name: Mapping[str, int], official: Mapping[str, int]) -> list[Finding]:
    """A note where columns come in another order than in the official file, as their header says."""
    if sorted(by_name, key=lambda name: by_name[name]) == sorted(by_name, key=lambda name: official[name]):
        return []
    what = f"columns in another order, {shown(header.text)}"
    return [Finding("header", at_line(path, header.line), what, "read as the header says", NOTE)]


def _misplaced(findings: list[Finding], where: str) -> list[Finding]:
    """The findings with one on a header among the rows: the only one, or one more."""
    others = [finding for finding in findings if finding.kind != "missing-header"]
    if len(others) < len(findings):
        return [*others, Finding("misplaced-header", where, "the header, which should come first", "line passed over")]
    return [*others, Finding("doubled-header", where, "the header once more", "line passed over")]


def _fitting(records: list[Record], places: Mapping[str, int], width: int, columns: Columns) -> int:
    """How many records would be rows of the table with its columns at `places`."""
    whole = (r for r in records if not r.fault and not _wrong_width(r, width))
    return sum(columns.fits(_values(record, places)) for record in whole)


def _wrong_width(record: Record, width: int) -> str:
    count = len(record.fields)
    return "" if count == width else f"{count} field{'s' * (count != 1)} instead of {width}"


def _values(record: Record, places: Mapping[str, int]) -> Row:
    return {name: record.fields[place].strip() for name, place in places.items()}


def _names(record: Record) -> tuple[str, ...]:
    return tuple(field.strip().lower() for field in record.fields)


def _joined(names: tuple[str, ...], columns: Columns) -> str:
    return columns.delimiter.join(names)
