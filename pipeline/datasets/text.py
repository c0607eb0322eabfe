"""Reading annotation files, and the checks that each of their fields needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import Finding

_MANY = 20
"""Findings of one kind in one file, from which on they are told as one where most rows have one."""
_FLOOD = 200
"""The same, however many rows there are."""
_SHOWN = 5
"""Line numbers that such a finding names."""
_HEAD = 1024
"""Characters by which a text that is no table is known."""


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text file without their ends, trailing empty lines dropped.

    Raises:
        UnusableAnnotations: the file is missing or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UnusableAnnotations(path, "is missing: the dataset's archive has it") from error
    except UnicodeDecodeError as error:
        raise UnusableAnnotations(path, f"is no UTF-8 text (byte {error.start}): fetch the file again") from error
    except OSError as error:
        raise UnusableAnnotations(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    if other := what_it_is_instead(text):
        raise UnusableAnnotations(path, other)
    return text.rstrip("\n").split("\n") if text.strip() else []


def what_it_is_instead(text: str) -> str:
    """What a text is where a table should be, and what to do; empty where nothing speaks against a table."""
    start = text.lstrip()[:_HEAD].lower()
    if start.startswith("version https://git-lfs.github.com/spec/"):
        return "is a pointer of Git LFS, not the file itself: fetch the content with `git lfs pull`"
    if "annex/objects/" in start.partition("\n")[0]:
        return "is a pointer of git-annex, not the file itself: fetch the content with `git annex get`"
    if start.startswith(("<!doctype html", "<html")):
        return "is an HTML page, such as a site's message of an error: fetch the file again"
    return ""


def is_file_name(text: str) -> bool:
    """Whether an id from an annotation file can be part of a file name, without leading anywhere else."""
    return bool(text) and text not in (".", "..") and not any(c in "/\\" or ord(c) < 32 for c in text)


def at_line(path: Path, line: int) -> str:
    """`where` of a finding on a line, counted from 1."""
    return f"{path} line {line}"


def gather(findings: Iterable[Finding], path: Path, rows: int) -> list[Finding]:
    """Findings on the rows of a file; where most rows, or very many, have one of a kind, one in place of all those.

    Args:
        findings: on lines of the file, and others, which stay as they are.
        path: the file.
        rows: how many rows it has.
    """
    told: list[Finding] = []
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.where.startswith(f"{path} line "):
            groups[finding.level, finding.kind].append(finding)
        else:
            told.append(finding)
    for (level, kind), group in groups.items():
        if len(group) < _MANY or len(group) <= min(rows / 2, _FLOOD):
            told += group
            continue
        lines = ", ".join(finding.where.rpartition(" ")[2] for finding in group[:_SHOWN])
        first = group[0]
        what = f"so in {len(group)} of {rows} rows: {first.what}"
        done = f"{first.done.partition(':')[0]}; first lines {lines}".removeprefix("; ")
        told.append(Finding(kind, str(path), what, done, level))
    return told
