"""What the subsets of AVSBench have in common: tables with checked rows, clips of separate files, the Dataset.

A clip's id is `<subset>/<name>` under every dataset name, so `avsbench` and `avsbench-<subset>` share a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.registry import manifest_of
from avpipe.pipeline.datasets.text import is_file_name, read_table
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

Row = dict[str, str]
"""One row of a table: values by column."""
Masks = tuple[Path | None, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row of a table stands for.

    Attributes:
        clip: with the files that are there.
        masks: where the mask of each segment would be.
        annotated: how many segments, from the first one on, have a mask by the dataset's rules.
    """

    clip: Clip
    masks: tuple[Path, ...]
    annotated: int


def no_fault(row: Row) -> str | None:
    """For tables whose names and splits are all that can be wrong."""
    return None


def read_subset(
    name: str,
    root: Path,
    table: Path,
    columns: tuple[str, ...],
    entry_of: Callable[[Row], Entry],
    fault_of: Callable[[Row], str | None] = no_fault,
) -> Dataset:
    """Reads one subset.

    Args:
        name: name of the subset as a dataset: `avsbench-<subset>`.
        root: the dataset's folder.
        table: its table, a CSV file with a header.
        columns: columns that the table must have; the first one names the clip, and `split` is among them.
        entry_of: files and masks of a row that can be used.
        fault_of: what is wrong with a row beyond its name and its split, None where nothing is.

    Returns:
        One sample a clip, in the order of the table; a clip whose files do not exist is still listed. Rows that cannot
        be used and files that are missing are in the notes.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    subset = name.removeprefix("avsbench-")
    rows, findings = _usable_rows(table, columns, fault_of)
    entries = [entry_of(row) for row in rows]
    masks = [_existing(entry.masks, entry.annotated) for entry in entries]
    clips = [entry.clip for entry in entries]
    samples = [
        Sample(clip.id, clip.id, row["split"], subset=subset, masks=drawn)
        for clip, row, drawn in zip(clips, rows, masks, strict=True)
    ]
    findings += _on_files(table.parent, clips, masks, sum(entry.annotated for entry in entries))
    manifest = manifest_of(name)
    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=tuple(manifest["classes"]),
        timeline=Timeline(manifest["timeline"]["segment_seconds"], manifest["timeline"]["frame_position"]),
        clips=tuple(clips),
        samples=tuple(samples),
        subsets=(subset,),
        findings=tuple(findings),
    )


def _usable_rows(
    path: Path, columns: tuple[str, ...], fault_of: Callable[[Row], str | None]
) -> tuple[list[Row], list[Finding]]:
    """Rows of a table that can be used, and a finding with its line number for every other one; see `read_subset`."""
    table, findings = read_table(path, columns)
    rows: dict[str, Row] = {}
    for line, values in table:
        row = dict(zip(columns, values, strict=True))
        name = values[0]
        if not is_file_name(name):
            kind, fault = "bad-id", f"{name!r} is no clip name"
        elif row["split"] not in SPLITS:
            kind, fault = "unknown-split", f"unknown split {row['split']!r}"
        elif name in rows:
            kind, fault = "duplicate-id", "the clip is in the table already"
        else:
            kind, fault = "unknown-class", fault_of(row) or ""
        if not fault:
            rows[name] = row
        else:
            findings.append(Finding(kind, f"{path} line {line}", fault, f"row left out: {','.join(values)}"))
    return list(rows.values()), findings


def object_clip(clip_id: str, frames: tuple[Path, ...], audio: Path, video: Path) -> Clip:
    """A clip of S4 or MS3 with what exists of it; where nothing does, with the files that should.

    Args:
        clip_id: its id.
        frames: one picture per segment.
        audio: its wav.
        video: the raw video that stands in for missing frames or a missing wav.
    """
    if not video.is_file():
        return Clip(clip_id, len(frames), frames=frames, audio=audio)
    return Clip(
        clip_id,
        len(frames),
        video=video,
        frames=frames if all(frame.is_file() for frame in frames) else None,
        audio=audio if audio.is_file() else None,
    )


def _existing(paths: Sequence[Path], expected: int) -> Masks:
    """The mask of each segment: a path where the file is there, else None; None beyond the `expected` first ones."""
    return tuple(path if number < expected and path.is_file() else None for number, path in enumerate(paths))


def _on_files(base: Path, clips: Sequence[Clip], masks: Sequence[Masks], expected: int) -> list[Finding]:
    """Clips that come from their raw videos, and masks that should be there and are not."""
    findings = []
    if from_video := sum(clip.frames is None for clip in clips):
        lacking = f"{from_video} of {len(clips)} clips lack some of their frame pictures: raw_videos is used for them"
        findings.append(Finding("from-video", str(base), lacking, level=NOTE))
    if missing := expected - sum(mask is not None for of_clip in masks for mask in of_clip):
        findings.append(Finding("missing-masks", str(base), f"{missing} of {expected} masks are missing"))
    return findings
