"""`sha256sums.txt` in a dataset's folder: what its files must hold, as `sha256sum` writes it.

    c0535e4be2b79ffd93291305436bf889314e4a3faec05ecffcbb7df31ad9e51a  videos/kitchen-1.mp4

Paths are relative to the folder and lie in it; what a link in it leads to may lie elsewhere. Files that are not listed
are not compared with anything. Lines of `openssl dgst` are read too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from avpipe.pipeline.errors import UnusableAnnotations, shown
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Clip, Dataset

FILE_NAME = "sha256sums.txt"
DIGEST = re.compile(r"[0-9a-fA-F]{64}")
BAD = "bad-checksum"
"""Kind of the finding on a checksum that is none."""
_LINE = re.compile(rf"(?P<escaped>\\?)(?P<digest>{DIGEST.pattern}) [ *](?P<name>.+)", re.DOTALL)
_TAGGED = re.compile(rf"(?P<escaped>\\?)SHA(2-)?256 ?\((?P<name>.+)\) ?= (?P<digest>{DIGEST.pattern})", re.DOTALL)
_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}


def read_checksums(root: Path) -> tuple[dict[str, str], list[Finding]]:
    """The checksums in a dataset's folder.

    Returns:
        SHA-256 in small letters by absolute path, empty where there is no such file; and the lines that are none.

    Raises:
        UnusableAnnotations: the file cannot be read, or holds something else.
    """
    path = root / FILE_NAME
    if not path.exists():
        return {}, []
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UnusableAnnotations(path, f"cannot be read: {error.strerror}; mend or remove it") from error
    found: dict[str, str] = {}
    findings: list[Finding] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line) or _TAGGED.fullmatch(line)
        if match is None:
            where, what = f"{path} line {number}", f"is no line of sha256sum: {shown(line)}"
            findings.append(Finding(BAD, where, what, "what it is about is not compared"))
            continue
        file, digest = absolute(root / _name(match)), match["digest"].lower()
        if "\0" in file or not Path(file).is_relative_to(absolute(root)):
            what = f"names no file in the folder: {shown(_name(match))}"
            findings.append(Finding(BAD, f"{path} line {number}", what, "what it is about is not compared"))
            continue
        if found.setdefault(file, digest) != digest:
            what = f"a second, other checksum of {match['name']}"
            findings.append(Finding(BAD, f"{path} line {number}", what, "the first one is taken"))
    if findings and not found:
        raise UnusableAnnotations(path, "has no line as sha256sum writes it (64 digits, 2 blanks, a path); remove it?")
    return found, findings


def with_checksums(dataset: Dataset) -> Dataset:
    """The dataset, its clips with the checksums of those of their files that the folder's `sha256sums.txt` lists."""
    known, findings = read_checksums(dataset.root)
    if not known:
        return dataset
    clips = tuple(_with_known(clip, known) for clip in dataset.clips)
    return replace(dataset, clips=clips, findings=(*dataset.findings, *findings))


def absolute(path: Path) -> str:
    """A path as the keys of `read_checksums` are written; links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100


def _with_known(clip: Clip, known: Mapping[str, str]) -> Clip:
    listed = tuple((path, known[place]) for path in clip.media() if (place := absolute(path)) in known)
    return replace(clip, sha256=(*clip.sha256, *listed)) if listed else clip


def _name(match: re.Match[str]) -> str:
    """The path of a line; one with a line break or backslash in it is written with escapes, and marked."""
    if not match["escaped"]:
        return match["name"].removesuffix("\r")
    return re.sub(r"\\[\\nr]", lambda escape: _ESCAPES[escape[0]], match["name"])
