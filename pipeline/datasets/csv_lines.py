"""Lines of a table split into fields, so that a lost quote costs its own row and not all that follow."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_LINE = 1 << 20
"""Characters of the longest line that is split."""
_LONGEST_QUOTE = 10
"""Lines over which a quoted field may run, before its quote counts as never closed."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row, or several lines that are none.

    Attributes:
        line: number of its first line, from 1.
        text: the lines.
        fields: what they hold; empty where there is a fault.
        fault: why they are no row, in words; empty where they are one.
    """

    line: int
    text: str
    fields: tuple[str, ...]
    fault: str = ""


def records(lines: Sequence[str], delimiter: str = ",") -> Iterator[Record]:
    """Every line that is not blank, split into fields; a field with a line break in it makes one broken record.

    Args:
        lines: without their ends.
        delimiter: between fields; quotes have a meaning with commas only.
    """
    csv.field_size_limit(max(LONGEST_LINE * _LONGEST_QUOTE, csv.field_size_limit()))
    at = 0
    while at < len(lines):
        line, taken = lines[at], 1
        if len(line) > LONGEST_LINE:
            yield Record(at + 1, line, (), f"a line of {len(line)} characters")
        elif delimiter != ",":
            if line.strip():
                yield Record(at + 1, line, tuple(line.split(delimiter)))
        elif line.strip():
            fields = _split([line])
            if fields is not None:
                yield Record(at + 1, line, fields)
            else:
                ends = (n for n in range(2, _LONGEST_QUOTE + 1) if _split(lines[at : at + n]) is not None)
                taken = next(ends, 1)
                fault = "a line break within quotes" if taken > 1 else "quotes that do not match"
                yield Record(at + 1, "\n".join(lines[at : at + taken]), (), fault)
        at += taken


def _split(lines: Sequence[str]) -> tuple[str, ...] | None:
    """Fields of one record that takes all of `lines`; None where they are not one record."""
    try:
        rows = list(csv.reader([*(f"{line}\n" for line in lines[:-1]), *lines[-1:]], strict=True))
    except csv.Error:
        return None
    return tuple(rows[0]) if len(rows) == 1 else None
