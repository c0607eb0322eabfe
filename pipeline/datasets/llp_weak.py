"""LLP's weak labels: which videos there are, in which split, and which classes occur somewhere in each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from avpipe.pipeline.datasets.tables import Columns, Row, read_table
from avpipe.pipeline.datasets.text import at_line, is_file_name
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import NOTE, Finding

TABLES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
"""The table of each split."""
ID_LETTERS = 11
"""Media files are called after the first letters of a name, the YouTube id."""
_NAME = re.compile(rf".{{{ID_LETTERS}}}_\d+(\.\d+)?_\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Weak:
    """A row: `labels` are the ids of its classes, ascending; `where` is its file and line."""

    name: str
    split: str
    labels: tuple[int, ...]
    where: str


@dataclass
class WeakLabels:
    """The tables of all splits.

    Attributes:
        rows: rows that can be used, by name.
        left_out: what stands in place of a name in the other rows of val and test, of which there are dense labels.
        nameless: classes of each of these that was left out for its name.
        missing: of val and test, splits without a row that can be used.
        lost: how many rows of each split were left out.
    """

    rows: dict[str, Weak] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    nameless: list[set[int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)


def read_weak(base: Path, classes: tuple[str, ...], findings: list[Finding]) -> WeakLabels:
    """Reads the tables of all splits.

    Args:
        base: the folder of the tables.
        classes: names of the classes.
        findings: gets one for every table that is missing or is no table, and for every row that is broken or odd.

    Raises:
        UnusableAnnotations: no table can be read.
    """
    weak = WeakLabels()
    videos: dict[str, Weak] = {}
    unusable: UnusableAnnotations | None = None
    columns = Columns(
        official=("filename", "event_labels"),
        needed=("filename", "event_labels"),
        fits=lambda row: _fault(row, classes) is None,
        delimiter="\t",
    )
    for split, name in TABLES.items():
        path = base / name
        if not path.is_file():
            findings.append(Finding("missing-table", str(path), f"no such file, so there is no {split} split"))
            continue
        try:
            table = read_table(path, columns)
        except UnusableAnnotations as error:
            findings.append(Finding("unusable", str(path), error.what, f"there is no {split} split"))
            unusable = unusable or error
            continue
        told: list[Finding] = []
        for line, values in table.rows:
            where = at_line(path, line)
            row = _parse(values, split, classes, where, videos)
            if isinstance(row, Finding):
                told.append(row)
                if split == "train":
                    continue
                weak.left_out.add(values["filename"])
                if row.kind == "bad-id":
                    weak.nameless.append({classes.index(label) for label in _labels(values) if label in classes})
                continue
            weak.rows[row.name] = videos[row.name[:ID_LETTERS]] = row
            told += _doubled(values, where)
        findings += table.told(path, told)
        weak.lost[split] = table.count - sum(row.split == split for row in weak.rows.values())
        if split != "train":
            weak.left_out.update(fields[0] for fields in table.broken if fields)
    there = {row.split for row in weak.rows.values()}
    weak.missing = [split for split in TABLES if split not in there | {"train"}]
    if unusable and not weak.rows:
        raise unusable
    return weak


def _parse(values: Row, split: str, classes: tuple[str, ...], where: str, videos: dict[str, Weak]) -> Weak | Finding:
    """The row, or what is wrong with it; `videos` are the rows so far by the name of their media."""
    fault = _fault(values, classes)
    name = values["filename"]
    if fault is None and (before := videos.get(name[:ID_LETTERS])):
        what = f"{name!r} is in {before.where} already"
        fault = "duplicate-id", what if before.name == name else f"the video of {name!r} is that of {before.where}"
    if fault is not None:
        return Finding(fault[0], where, fault[1], f"row left out: {name!r} {values['event_labels']!r}")
    ids = sorted({classes.index(label) for label in _labels(values)})
    return Weak(name, split, tuple(ids), where)


def _fault(values: Row, classes: tuple[str, ...]) -> tuple[str, str] | None:
    """Kind and words of what is wrong with a row by itself."""
    name = values["filename"]
    if not (is_file_name(name) and _NAME.fullmatch(name)):
        return "bad-id", f"{name!r} is no name of the form <{ID_LETTERS}-character id>_<start>_<end>"
    if not values["event_labels"]:
        return "broken-row", "no label"
    unknown = [label for label in _labels(values) if label not in classes]
    return ("unknown-class", f"unknown class {unknown[0]!r}") if unknown else None


def _labels(values: Row) -> list[str]:
    return [label.strip() for label in values["event_labels"].split(",")]


def _doubled(values: Row, where: str) -> list[Finding]:
    labels = _labels(values)
    twice = sorted({label for label in labels if labels.count(label) > 1})
    what = f"label {', '.join(twice)} of {values['filename']} more than once"
    return [Finding("doubled-label", where, what, "counted once", NOTE)] if twice else []
