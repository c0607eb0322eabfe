"""Reading annotation files, and the checks that each of their fields needs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.findings import FAULT, Finding

_MANY = 20
"""Findings of one reason in one file, from which on they may be told as one."""
_SHOWN = 5
"""Line numbers that such a finding names."""


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
    except OSError as error:
        raise UsageError(f"annotation file {path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    return text.rstrip("\n").split("\n") if text.strip() else []


def is_file_name(text: str) -> bool:
    """Whether an id from an annotation file can be part of a file name, without leading anywhere else."""
    return bool(text) and text not in (".", "..") and not any(c in "/\\" or ord(c) < 32 for c in text)


def at_line(path: Path, line: int) -> str:
    """`where` of a finding on a line, counted from 1."""
    return f"{path} line {line}"


def gather(findings: Iterable[Finding], path: Path, rows: int) -> list[Finding]:
    """Findings on the rows of a file; where most rows have one and the same fault, one finding in place of all those.

    Args:
        findings: on lines of the file, and others, which stay as they are.
        path: the file.
        rows: how many rows it has.
    """
    groups: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        on_row = finding.level == FAULT and finding.where.startswith(f"{path} line ")
        # Values differ from row to row; the words around them say what is wrong.
        reason = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "_", finding.what) if on_row else finding.where + finding.what
        groups[finding.kind, reason].append(finding)
    told: list[Finding] = []
    for (kind, _), group in groups.items():
        if len(group) < _MANY or len(group) <= rows / 2:
            told += group
            continue
        lines = ", ".join(finding.where.rpartition(" ")[2] for finding in group[:_SHOWN])
        first = group[0]
        what = f"{len(group)} of {rows} rows have one fault, such as {first.what}"
        done = f"{first.done.partition(':')[0]}; first lines {lines}"
        told.append(Finding(kind, str(path), what, done))
    return told
