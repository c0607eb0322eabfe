"""Reading the rows of a user's own table, CSV or Parquet, as text by column."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.csv_lines import Record, records
from avpipe.pipeline.datasets.text import what_it_is_instead
from avpipe.pipeline.errors import UnusableAnnotations, shown
from avpipe.pipeline.findings import NOTE, Finding

COLUMNS = (
    *("clip", "media", "frames", "audio", "split", "source", "segments", "media_sha256", "audio_sha256"),
    *("events", "labels", "audio_events", "visual_events", "masks", "question", "answer", "type"),
)
"""Columns with a meaning; others are left to the user."""
LABELS = {"events": "events", "parsing": "labels", "segmentation": "masks", "qa": "question"}
"""Tasks, and the column that each is recognised by."""
_QUOTED = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|[^",]*)(?:,(?:"[^"]*(?:""[^"]*)*"|[^",]*))*')
"""A line whose quotes are all around whole fields, or doubled in them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        number: its place in the table, from 0, the header not counted.
        where: the file with line number (CSV, from 1) or row number (Parquet, from 1).
        values: by column, stripped; empty where the cell is.
    """

    number: int
    where: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        path: the file.
        columns: those of `COLUMNS` that it has.
        rows: its complete rows, in order.
        findings: rows that are not complete, and columns that mean nothing here.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def read_table(path: Path) -> Table:
    """Reads a table. In CSV a row is one line, fields are separated by commas, and quotes protect commas.

    Raises:
        UnusableAnnotations: not readable as CSV or Parquet, or a column that every table needs is missing.
    """
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


def _read_csv(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableAnnotations(path, f"is no UTF-8 text (byte {error.start}): save it as CSV in UTF-8") from error
    except OSError as error:
        raise UnusableAnnotations(path, f"cannot be read: {error.strerror}") from error
    if other := what_it_is_instead(text):
        raise UnusableAnnotations(path, other)
    filled = list(records(text.split("\n")))  # reading as text has made every line end "\n"
    if not filled:
        raise UnusableAnnotations(path, "is empty: expected a header and one row per clip")
    header = _header(filled[0].fields, f"{path} line {filled[0].line}", filled[0].text)
    rows, findings = [], _unknown(header, path)
    for place, record in enumerate(filled[1:]):
        where, fault = f"{path} line {record.line}", _fault(record, len(header))
        if fault:
            findings.append(Finding("broken-row", where, fault, f"row left out: {shown(record.text)}"))
        else:
            rows.append(Row(place, where, dict(zip(header, (field.strip() for field in record.fields), strict=True))))
    return Table(path, tuple(c for c in COLUMNS if c in header), tuple(rows), tuple(findings))


def _fault(record: Record, width: int) -> str:
    """Why a record is no row, "" where it is one."""
    if record.fault:
        return f"{record.fault}: a row is one line"
    if len(record.fields) != width:
        count = f"{len(record.fields)} field{'s' * (len(record.fields) != 1)} instead of {width}"
        return f"{count} (a field with a comma in it needs quotes around it)"
    if not _QUOTED.fullmatch(record.text):
        return "a quote within a field: quotes go around whole fields, and a quote in such a field is doubled"
    return ""


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            header = _header(names, str(path), ",".join(names))
            wanted = [name for name in names if name.strip().lower() in COLUMNS]
            content = file.read(columns=wanted, use_threads=False).to_pydict()  # threads left at exit abort Python
    except (pyarrow.ArrowException, OSError) as error:
        raise UnusableAnnotations(path, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    columns = {name.strip().lower(): [_cell(value) for value in values] for name, values in content.items()}
    rows = [
        Row(place, f"{path} row {place + 1}", dict(zip(columns, cells, strict=True)))
        for place, cells in enumerate(zip(*columns.values(), strict=True))
    ]
    return Table(path, tuple(c for c in COLUMNS if c in columns), tuple(rows), tuple(_unknown(header, path)))


def _cell(value: Any) -> str:
    """A Parquet cell as CSV would have it; a list is joined by ";"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list):
        return ";".join(map(_cell, value))
    return str(value).strip()


def _header(names: Sequence[str], where: str, line: str) -> tuple[str, ...]:
    """Names of the columns, in small letters, checked."""
    header = tuple(name.strip().lower() for name in names)
    if twice := sorted(name for name, count in Counter(header).items() if count > 1 and name):
        raise UnusableAnnotations(where, f"has column {twice[0]!r} twice")
    lacking = [column for column in ("clip", "split") if column not in header]
    if not {"media", "frames", "audio"} & set(header):
        lacking.append("media (or frames, or audio)")
    if lacking:
        hint = next((f"; it looks separated by {c!r}: save it with commas" for c in ";\t|" if c in line), "")
        raise UnusableAnnotations(
            where, f"has no column {', '.join(lacking)}; the header is {shown(line.strip())}{hint}"
        )
    return header


def _unknown(header: Sequence[str], path: Path) -> list[Finding]:
    names = [repr(name) for name in header if name not in COLUMNS]
    if not names:
        return []
    what = f"columns that mean nothing here: {', '.join(names)}"
    return [Finding("unknown-column", str(path), what, f"left alone; known are {', '.join(COLUMNS)}", NOTE)]
