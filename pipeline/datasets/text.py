"""Reading annotation files, and the checks that each of their fields needs."""

from __future__ import annotations

import csv
from pathlib import Path

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.findings import Finding


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file without their ends, trailing empty lines dropped.

    Raises:
        UsageError: the file is missing or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"annotation file {path} is missing: the dataset's archive has it") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"annotation file {path} is no UTF-8 text (byte {error.start}): fetch the file again"
        ) from error
    return text.rstrip("\n").split("\n") if text.strip() else []


def read_table(path: Path, columns: tuple[str, ...]) -> tuple[list[tuple[int, tuple[str, ...]]], list[Finding]]:
    """Rows of a CSV file with a header.

    Args:
        path: the file.
        columns: names that the header must have; other columns are ignored.

    Returns:
        Line number (from 1) and the values of `columns` of every complete row; a finding for every other row.

    Raises:
        UsageError: the file is missing, is no text, or lacks a column.
    """
    lines = list(csv.reader(read_lines(path)))
    header = [field.strip() for field in lines[0]] if lines else []
    lacking = [column for column in columns if column not in header]
    if lacking:
        raise UsageError(
            f"annotation file {path} has no column {', '.join(lacking)}; its header is {','.join(header)!r}"
        )
    rows, findings = [], []
    for number, fields in enumerate(lines[1:], start=2):
        if len(fields) == len(header):
            rows.append((number, tuple(fields[header.index(column)].strip() for column in columns)))
        else:
            fault = f"{len(fields)} fields instead of {len(header)}"
            left_out = f"row left out: {','.join(fields)!r}"
            findings.append(Finding("broken-row", f"{path} line {number}", fault, left_out))
    return rows, findings


def is_file_name(text: str) -> bool:
    """Whether an id from an annotation file can be part of a file name, without leading anywhere else."""
    return bool(text) and text not in (".", "..") and not any(c in "/\\" or ord(c) < 32 for c in text)
