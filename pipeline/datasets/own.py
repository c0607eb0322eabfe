"""A user's own data as a dataset: a CSV, Parquet or YAML file in place of a name.

    settings (own_settings) -> rows (own_table) -> what each says (own_rows, own_events) -> media (own_media)
        -> classes and samples (own_labels)

A row that cannot be used is left out and named in the findings; it never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avpipe import data_manifests
from avpipe.pipeline.datasets.own_labels import Labeller, classes_of
from avpipe.pipeline.datasets.own_media import Found, find_media
from avpipe.pipeline.datasets.own_remarks import remarks
from avpipe.pipeline.datasets.own_rows import BadRow, Entry, RowReader
from avpipe.pipeline.datasets.own_settings import TABLES, YAMLS, OwnSettings, read_settings
from avpipe.pipeline.datasets.own_table import LABELS, Row, Table, read_table
from avpipe.pipeline.errors import UnusableAnnotations, UsageError, unknown_name
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Dataset, Sample

SUFFIXES = (*TABLES, *YAMLS)
_USUAL = "ave"
"""The official dataset whose default backbones are those of a table that names none."""
_REASONS = 3
_LEFT_OUT = "the row is left out"
_COLUMNS = {
    "events": ("events",),
    "parsing": ("labels", "audio_events", "visual_events", "events"),
    "segmentation": ("masks",),
    "qa": ("question", "answer"),
}
"""Columns of each task: all of them for qa, one of them for the others."""
_NO_LABELS = "to extract features alone, add an empty column events"


def is_own(name: str) -> bool:
    """Whether a dataset's name is a file of the user's own."""
    return Path(name).suffix.lower() in SUFFIXES


def find_file(name: str, root: Path | None = None) -> Path:
    """The file that a name means: in `root`, or where it says.

    Raises:
        UsageError: there is none.
    """
    path = Path(name) if root is None else Path(root) / Path(name).name
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise UsageError(f"{path.absolute()}: {what}; a table of your own is named with its folder")
    return path


def read_rows(dataset: Dataset) -> tuple[Path, tuple[Row, ...]]:
    """The table that a dataset was read from, and its complete rows, usable or not."""
    table = read_table(read_settings(dataset.root / dataset.name, None, {}).table)
    return table.path, table.rows


def task_of(name: str, root: Path | None = None, task: str | None = None) -> str:
    """The task of a user's own table; no media are looked at. See `read_own` for arguments and errors."""
    settings = read_settings(find_file(name, root), task, {})
    return _task(read_table(settings.table), settings.task)


def read_own(
    name: str,
    root: Path | None,
    *,
    task: str | None,
    options: Mapping[str, str],
    segments: Mapping[str, int],
) -> Dataset:
    """Reads a user's own table; see `load_dataset` for arguments.

    Returns:
        One clip a row (questions may share clips), with the ids of the rows; a sample's id is that of its clip, for qa
        `<row>:<clip>` with the row counted from 0. `options` are the settings in full, so that the dataset can be read
        again in the same way.

    Raises:
        UsageError: no such file, not a table, unknown settings, no task or several that fit, or no usable row.
    """
    file = find_file(name, root)
    settings = read_settings(file, task, options)
    table = read_table(settings.table)
    task = _task(table, settings.task)
    findings = list(table.findings)
    entries = _entries(table, task, settings, findings)
    found, on_media = find_media(entries, settings, segments)
    entries = [entry for entry in entries if entry.clip in found]
    classes = classes_of(entries, task, settings.classes)
    samples, on_labels = _samples(entries, found, Labeller(task, classes, settings))
    findings += [*_of_used(on_media, on_labels), *on_labels]
    if not samples:
        raise UnusableAnnotations(table.path, _nothing(findings))
    used = {sample.clip for sample in samples}
    entries = [entry for entry in entries if entry.clip in used]
    return Dataset(
        name=file.name,
        root=file.parent,
        task=task,
        classes=classes,
        timeline=settings.timeline,
        clips=tuple(one.clip for clip, one in found.items() if clip in used),
        samples=samples,
        backbones={**data_manifests.load(_USUAL)["backbones"], **settings.backbones},
        findings=(*findings, *remarks(table.path, entries, found, samples, classes, task)),
        options=settings.options(),
        media=settings.media,
    )


def _task(table: Table, named: str | None) -> str:
    """The task that was named, checked against the columns; else the only one that they fit."""
    if named is not None:
        if named not in LABELS:
            raise unknown_name("task of a table", named, LABELS)
        there = [column for column in _COLUMNS[named] if column in table.columns]
        if not there or (named == "qa" and len(there) < 2):
            joined = (" and " if named == "qa" else " or ").join(_COLUMNS[named])
            raise UsageError(f"{table.path} has no column for task {named}: it needs {joined}")
        return named
    fits = [task for task, column in LABELS.items() if column in table.columns]
    if not fits and {"audio_events", "visual_events"} & set(table.columns):
        fits = ["parsing"]
    if not fits:
        needed = ", ".join(f"{column} ({task})" for task, column in LABELS.items())
        raise UsageError(f"{table.path} has no column of labels: it needs one of {needed}; {_NO_LABELS}")
    if len(fits) > 1:
        raise UsageError(f"{table.path} has columns for several tasks: name one with --task ({', '.join(fits)})")
    return _task(table, fits[0])


def _entries(table: Table, task: str, settings: OwnSettings, findings: list[Finding]) -> list[Entry]:
    """The rows that can be used; the others go to `findings`."""
    reader = RowReader(table, task, settings.classes)
    entries = []
    for row in table.rows:
        try:
            entries.append(reader.read(row))
        except BadRow as bad:
            findings.append(bad.finding(row))
    return entries


def _samples(
    entries: Sequence[Entry], found: Mapping[str, Found], labeller: Labeller
) -> tuple[tuple[Sample, ...], list[Finding]]:
    samples: list[Sample] = []
    findings: list[Finding] = []
    for entry in entries:
        try:
            samples.append(labeller.sample(entry, found[entry.clip], findings))
        except BadRow as bad:
            findings.append(bad.finding(entry.row))
    return tuple(samples), findings


def _of_used(on_media: Sequence[Finding], on_labels: Sequence[Finding]) -> list[Finding]:
    """Findings on media, of which those on rows that are left out for their labels do not speak of extraction."""
    left_out = {finding.where for finding in on_labels if finding.done.startswith("row left out")}
    return [replace(finding, done=_LEFT_OUT) if finding.where in left_out else finding for finding in on_media]


def _nothing(findings: Sequence[Finding]) -> str:
    reasons = [str(finding) for finding in findings if finding.level != NOTE][:_REASONS]
    return "has no row that can be used" + "".join(f"{';' if n else ':'}\n  {one}" for n, one in enumerate(reasons))
