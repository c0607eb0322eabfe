"""Rows of annotations beside files: what rows that were left out name, and which files the rows of a table name."""

from __future__ import annotations

import gzip
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from avpipe.pipeline.datasets.check.look import AUDIO, VIDEO
from avpipe.pipeline.datasets.check.wanted import Wanted
from avpipe.pipeline.datasets.own import is_own, read_rows
from avpipe.pipeline.datasets.own_table import Row
from avpipe.pipeline.findings import FAULT, Finding
from avpipe.pipeline.manifest import Dataset

_LARGEST_TABLE = 256 << 20
_ON_MEDIA = ("missing-file", "unreadable-file")
"""Kinds of findings of who reads a table, which name a row and are about a file of it."""
_FILES = ("media", "audio")
_COLUMNS = (*_FILES, "frames", "masks")


def left_out(dataset: Dataset) -> str:
    """Text of the rows that were left out: what they name is no stray.

    All of a file where a finding says that rows of it were left out, and not which.
    """
    texts: list[str] = []
    lines: dict[Path, set[int]] = defaultdict(set)
    for finding in dataset.findings:
        if "left out" in finding.done:
            texts.append(finding.done)
            file, _, line = finding.where.rpartition(" line ")
            lines[Path(file or finding.where)].add(int(line) if file and line.isdecimal() else 0)
    for path, numbers in lines.items():
        if path.is_file() and path.stat().st_size < _LARGEST_TABLE:
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace")
            texts += [text] if 0 in numbers else _at(text.split("\n"), numbers)
    return "\n".join(texts)


def _at(lines: Sequence[str], numbers: Iterable[int]) -> list[str]:
    """Some lines, by number from 1."""
    return [lines[number - 1] for number in numbers if number <= len(lines)]


class TableRows:
    """Rows of a user's own table, and the files and folders that each names; for official datasets there are none.

    Args:
        dataset: as read from the table.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._path, rows = read_rows(dataset) if is_own(dataset.name) else (Path(), ())
        self._rows = {row.where: row for row in rows}
        self._naming: dict[Path, dict[str, set[str]]] = defaultdict(dict)  # columns by row
        for row in rows:
            for column, path in self._named(row):
                self._naming[path].setdefault(row.where, set()).add(column)

    def _named(self, row: Row) -> Iterator[tuple[str, Path]]:
        for column in _COLUMNS:
            if row[column]:
                yield column, self._path.parent / row[column]

    @property
    def paths(self) -> frozenset[str]:
        """Absolute paths of everything that a row names, usable or not."""
        return frozenset(map(os.path.abspath, self._naming))

    def left_out_for_media(self) -> Iterator[Wanted]:
        """Files of rows that were left out because of their files: only a look at those says what is wrong."""
        on_media = dict.fromkeys(finding.where for finding in self._dataset.findings if finding.kind in _ON_MEDIA)
        for row in (self._rows[where] for where in on_media if where in self._rows):
            base, clip = self._path.parent, row["clip"]
            if row["media"]:
                tracks = tuple(t for t, column in ((VIDEO, "frames"), (AUDIO, "audio")) if not row[column])
                yield Wanted(base / row["media"], VIDEO, clip, tracks or (VIDEO, AUDIO), spare=not tracks)
            if row["audio"]:
                yield Wanted(base / row["audio"], AUDIO, clip)

    def told_once(
        self, of_rows: Sequence[Finding], of_files: Sequence[Finding], beside_others: Sequence[Finding]
    ) -> list[Finding]:
        """Findings on rows and on files, without those on rows that tell of a file what one on the file tells.

        What is said of a file names the row, and says what is done with that.

        Args:
            of_rows: what is wrong with rows.
            of_files: files that are missing or broken, which costs their rows.
            beside_others: what files have to do with each other and with their clips, which costs no row.
        """
        if not self._rows:
            return [*of_rows, *of_files, *beside_others]
        found = {Path(finding.where) for finding in of_files if finding.level == FAULT}
        told: list[Finding] = []
        done: dict[Path, str] = {}
        for finding in of_rows:
            path = self._about(finding)
            if path in found:
                done[path] = finding.done
            else:
                told.append(finding)
        for finding in of_files:
            told.append(self._with_rows(replace(finding, done=done.get(Path(finding.where), finding.done))))
        return told + [self._with_rows(finding) for finding in beside_others]

    def _with_rows(self, finding: Finding) -> Finding:
        path = Path(finding.where)
        rows = self._naming.get(path) or self._naming.get(path.parent) or {}
        # A folder may be right for the rows that take pictures from it.
        as_file = [where for where, columns in rows.items() if not columns.isdisjoint(_FILES)]
        told = as_file if as_file and finding.kind == "not-a-file" else list(rows)
        return replace(finding, what=finding.what + self._told(told))

    def of(self, path: Path, clips: Collection[str]) -> str:
        """The rows of some clips that name a file, for the end of a sentence; "" where none does."""
        return self._told([where for where in self._naming.get(path, ()) if self._rows[where]["clip"] in clips])

    def _told(self, rows: Sequence[str]) -> str:
        return f" ({self._short(rows)})" if rows else ""

    def _short(self, rows: Sequence[str]) -> str:
        first = f"{self._path.name}{rows[0].removeprefix(str(self._path))}"
        return f"{first} and {len(rows) - 1} more" if len(rows) > 1 else first

    def _about(self, finding: Finding) -> Path | None:
        """The file that a finding on a row is about."""
        if finding.kind not in _ON_MEDIA or finding.where not in self._rows:
            return None
        row = self._rows[finding.where]
        if finding.kind == "unreadable-file":  # that from which its length was to be told
            by_sound = row["audio"] and (row["frames"] or not row["media"])
            return self._path.parent / (row["audio"] if by_sound else row["media"])
        return next((path for _, path in self._named(row) if finding.what.startswith((f"{path} ", f"{path}: "))), None)
