"""Annotation tables: rows by column, whatever happened to the header, and a finding for every row that is broken.

A header that does not go with its rows is named once, as the fault; the rows are still read where their meaning is
certain, because they fit the official order of the columns.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.text import at_line, gather, read_lines
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.findings import Finding

Row = dict[str, str]
"""One row of a table: values by column."""

_TRIED = 500
"""Rows by which a header is judged."""
_LONGEST_QUOTE = 10
"""Lines over which a quoted field may run, before its quote counts as never closed."""


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
        """Its findings and `more` on its rows; where most rows have one fault, one finding for all of them."""
        return gather([*self.findings, *more], path, self.count)


@dataclass(frozen=True)
class _Record:
    line: int
    text: str
    fields: tuple[str, ...]
    fault: str = ""


def read_table(path: Path, columns: Columns) -> Table:
    """Reads a table.

    Args:
        path: a text file with one row a line; a byte order mark, either end of line and blank lines are fine.
        columns: what is known of it.

    Raises:
        UsageError: the file is missing, is no text, or neither its header nor the official order fits its rows.
    """
    records = list(_records(read_lines(path), columns.delimiter))
    if not records:
        raise UsageError(f"annotation file {path} is empty: its header is {_joined(columns.official, columns)!r}")
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
            left_out = f"row left out: {record.text!r}"
            findings.append(Finding("broken-row", at_line(path, record.line), fault, left_out))
            broken.append(tuple(field.strip() for field in record.fields))
        else:
            rows.append((record.line, _values(record, places)))
    if not body:
        findings.append(Finding("empty-table", str(path), "a header and no rows"))
    return Table(tuple(rows), tuple(findings), len(body), tuple(broken))


def _places(
    path: Path, header: tuple[str, ...], records: list[_Record], columns: Columns
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
            return by_name, len(header), []
    first, expected = at_line(path, records[0].line), _joined(columns.official, columns)
    if _fitting(records[:1], official, len(columns.official), columns):
        what = f"no header, which would be {expected!r}"
        return official, len(columns.official), [Finding("missing-header", first, what, "read in the official order")]
    if body and fit_official * 2 >= len(body):
        what = f"the header {records[0].text!r} does not go with the rows, which fit {expected!r}"
        return official, len(columns.official), [Finding("wrong-header", first, what, "read in the official order")]
    lacking = [name for name in columns.needed if name not in by_name]
    what = f"has no column {', '.join(lacking)}" if lacking else "has rows that do not fit its header"
    raise UsageError(
        f"annotation file {path} {what}; its header is {records[0].text!r}, expected {expected!r}: fetch the file again"
    )


def _misplaced(findings: list[Finding], where: str) -> list[Finding]:
    """The findings with one on a header among the rows: the only one, or one more."""
    others = [finding for finding in findings if finding.kind != "missing-header"]
    if len(others) < len(findings):
        return [*others, Finding("misplaced-header", where, "the header, which should come first", "line passed over")]
    return [*others, Finding("doubled-header", where, "the header once more", "line passed over")]


def _fitting(records: list[_Record], places: Mapping[str, int], width: int, columns: Columns) -> int:
    """How many records would be rows of the table with its columns at `places`."""
    whole = (r for r in records if not r.fault and not _wrong_width(r, width))
    return sum(columns.fits(_values(record, places)) for record in whole)


def _wrong_width(record: _Record, width: int) -> str:
    return "" if len(record.fields) == width else f"{len(record.fields)} fields instead of {width}"


def _values(record: _Record, places: Mapping[str, int]) -> Row:
    return {name: record.fields[place].strip() for name, place in places.items()}


def _names(record: _Record) -> tuple[str, ...]:
    return tuple(field.strip().lower() for field in record.fields)


def _joined(names: tuple[str, ...], columns: Columns) -> str:
    return columns.delimiter.join(names)


def _records(lines: list[str], delimiter: str) -> Iterator[_Record]:
    """Every line that is not blank, split into fields; a field with a line break in it makes one broken record."""
    at = 0
    while at < len(lines):
        line, taken = lines[at], 1
        if delimiter != ",":
            if line.strip():
                yield _Record(at + 1, line, tuple(line.split(delimiter)))
        elif line.strip():
            fields = _split([line])
            if fields is not None:
                yield _Record(at + 1, line, fields)
            else:
                ends = (n for n in range(2, _LONGEST_QUOTE + 1) if _split(lines[at : at + n]) is not None)
                taken = next(ends, 1)
                fault = "a line break within quotes" if taken > 1 else "quotes that do not match"
                yield _Record(at + 1, "\n".join(lines[at : at + taken]), (), fault)
        at += taken


def _split(lines: list[str]) -> tuple[str, ...] | None:
    """Fields of one record that takes all of `lines`; None where they are not one record."""
    try:
        rows = list(csv.reader([f"{line}\n" for line in lines[:-1]] + lines[-1:], strict=True))
    except csv.Error:
        return None
    return tuple(rows[0]) if len(rows) == 1 else None
