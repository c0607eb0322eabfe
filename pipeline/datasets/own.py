"""A user's own data as a dataset: a CSV, Parquet or YAML file in place of a name.

    settings (own_settings) -> rows (own_table) -> what each says (own_rows, own_events) -> media (own_media)
        -> classes and samples (own_labels)

A row that cannot be used is left out and named in the findings; it never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avpipe import data_manifests
from avpipe.pipeline.datasets.own_labels import Labeller, classes_of
from avpipe.pipeline.datasets.own_media import Found, find_media
from avpipe.pipeline.datasets.own_rows import BadRow, Entry, RowReader
from avpipe.pipeline.datasets.own_settings import TABLES, YAMLS, OwnSettings, read_settings
from avpipe.pipeline.datasets.own_table import LABELS, Table, read_table
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Dataset, Sample

SUFFIXES = (*TABLES, *YAMLS)
_USUAL = "ave"
"""The official dataset whose default backbones are those of a table that names none."""
_REASONS = 3
_COLUMNS = {
    "events": ("events",),
    "parsing": ("labels", "audio_events", "visual_events", "events"),
    "segmentation": ("masks",),
    "qa": ("question", "answer"),
}
"""Columns of each task: all of them for qa, one of them for the others."""


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
    findings += on_media
    entries = [entry for entry in entries if entry.clip in found]
    classes = classes_of(entries, task, settings.classes)
    samples = _samples(entries, found, Labeller(task, classes, settings), findings)
    if not samples:
        raise UsageError(_nothing(table, findings))
    used = {sample.clip for sample in samples}
    return Dataset(
        name=file.name,
        root=file.parent,
        task=task,
        classes=classes,
        timeline=settings.timeline,
        clips=tuple(one.clip for clip, one in found.items() if clip in used),
        samples=samples,
        backbones={**data_manifests.load(_USUAL)["backbones"], **settings.backbones},
        findings=(*findings, *_remarks(table.path, samples, classes, task, found)),
        options=settings.options(),
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
        raise UsageError(f"{table.path} has no column of labels: it needs one of {needed}")
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
    entries: Sequence[Entry], found: Mapping[str, Found], labeller: Labeller, findings: list[Finding]
) -> tuple[Sample, ...]:
    samples = []
    for entry in entries:
        try:
            samples.append(labeller.sample(entry, found[entry.clip], findings))
        except BadRow as bad:
            findings.append(bad.finding(entry.row))
    return tuple(samples)


def _nothing(table: Table, findings: Sequence[Finding]) -> str:
    reasons = [str(finding) for finding in findings if finding.level != NOTE][:_REASONS]
    return "\n  ".join([f"{table.path} has no row that can be used", *reasons])


def _remarks(
    path: Path, samples: Sequence[Sample], classes: Sequence[str], task: str, found: Mapping[str, Found]
) -> list[Finding]:
    """What is worth knowing about the table as a whole."""
    where, remarks = str(path), []
    splits = {sample.split for sample in samples}
    if lacking := [split for split in SPLITS if split not in splits]:
        remarks.append(Finding("no-split", where, f"no row of split {', '.join(lacking)}", level=NOTE))
    folded: dict[str, str] = {}
    for name in classes:
        other = folded.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            remarks.append(Finding("similar-classes", where, f"{other!r} and {name!r} are two classes", level=NOTE))
    if weak := [s.id for s in samples if task == "parsing" and s.split != "train" and s.audio_events is None]:
        what = f"{len(weak)} samples of val or test have labels without times, such as {weak[0]!r}"
        needs = "scoring needs columns events, or audio_events and visual_events"
        remarks.append(Finding("no-events", where, what, needs, NOTE))
    clips = [one.clip for one in found.values()]
    for modality, lacks in (
        ("visual", all(clip.video is None and clip.frames is None for clip in clips)),
        ("audio", all(clip.video is None and clip.audio is None for clip in clips)),
    ):
        if lacks:
            other = "audio" if modality == "visual" else "visual"
            what = f"no row has {modality} media"
            remarks.append(Finding("one-modality", where, what, f"extract with --modality {other}", NOTE))
    return remarks
