"""Tables of predictions: CSV, tab-separated text, Parquet, or JSON (a list of objects, or one object a line)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.csv_lines import LONGEST_LINE
from avpipe.pipeline.errors import UsageError, shown

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        where: file and line or row.
        values: by column; text from text files, else as stored; None where a cell is empty.
    """

    where: str
    values: dict[str, Any]

    def text(self, column: str) -> str:
        """A cell as text without blanks around it; empty where the cell is."""
        value = self.values.get(column)
        return "" if value is None else str(value).strip()

    def whole(self, column: str) -> int:
        """A cell as a whole number.

        Raises:
            UsageError: it is none.
        """
        value = self.values.get(column)
        try:
            number = float(value) if value is not None else float("nan")
            if number == int(number):
                return int(number)
        except (TypeError, ValueError, OverflowError):
            pass
        raise UsageError(f"{self.where}: {column} must be a whole number, not {shown(value)}")


def read_rows(path: Path, needed: Iterable[str]) -> Iterator[Row]:
    """The rows of a table.

    Args:
        path: a file with one of the `SUFFIXES`.
        needed: columns that it must have; it may have others.

    Raises:
        UsageError: it cannot be read, has no row, or lacks a column.
    """
    readers = {".parquet": _parquet, ".jsonl": _json_lines, ".json": _json}
    reader = readers.get(path.suffix.lower(), _separated)
    first = True
    try:
        for row in reader(path):
            if first:
                _require(path, row, needed)
            first = False
            yield row
    except RecursionError as error:
        raise UsageError(f"{path} cannot be read: its JSON is nested too deep") from error
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if first:
        raise UsageError(f"{path} has no row: it needs the columns {', '.join(needed)}, and one row a prediction")


def _require(path: Path, row: Row, needed: Iterable[str]) -> None:
    lacking = [column for column in needed if column not in row.values]
    if lacking:
        found = ", ".join(map(str, row.values)) or "none"
        raise UsageError(f"{path} lacks the column {lacking[0]!r}; it has {found}")


def _separated(path: Path) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(max(LONGEST_LINE, csv.field_size_limit()))
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter=delimiter, strict=True)
        _once([name for column in table.fieldnames or () if (name := column.strip())], str(path))
        for values in table:
            where = f"{path} line {table.line_num}"
            if None in values:
                raise UsageError(f"{where} has more fields than the header")
            yield Row(where, {str(column).strip(): value or None for column, value in values.items()})


def _once(names: Sequence[str], where: str) -> None:
    """Refuses a name that is there twice: of two values, one would be taken without a word."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: column {twice!r} is there twice: keep one")


def _pairs(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object."""
    _once([name for name, _ in pairs], where)
    return dict(pairs)


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path} line {number}"
                yield _object(where, json.loads(line, object_pairs_hook=partial(_pairs, where)))


def _json(path: Path) -> Iterator[Row]:
    content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=partial(_pairs, str(path)))
    if not isinstance(content, list):
        raise UsageError(f"{path} must hold a list of objects, one a prediction")
    for number, value in enumerate(content, 1):
        yield _object(f"{path} entry {number}", value)


def _object(where: str, value: object) -> Row:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no JSON object: {str(value)[:40]!r}")
    return Row(where, value)


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as table:
            _once(table.schema_arrow.names, str(path))
            for batch in table.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path} row {number}", values)
    except ArrowException as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
