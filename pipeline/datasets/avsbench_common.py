"""What the subsets of AVSBench have in common: tables with checked rows, clips of separate files, the Dataset.

A clip's id is `<subset>/<name>` under every dataset name, so `avsbench` and `avsbench-<subset>` share a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from avpipe.pipeline.datasets.registry import manifest_of
from avpipe.pipeline.datasets.text import is_file_name, read_table
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

Row = dict[str, str]
"""One row of a table: values by column."""
Masks = tuple[Path | None, ...]


def no_fault(row: Row) -> str | None:
    """For tables whose names and splits are all that can be wrong."""
    return None


def usable_rows(
    path: Path, columns: tuple[str, ...], fault_of: Callable[[Row], str | None] = no_fault
) -> tuple[list[Row], list[str]]:
    """Rows of a table that can be used, and a note with its line number for every other one.

    Args:
        path: a CSV file with a header.
        columns: columns that it must have; the first one names the clip, and `split` is among them.
        fault_of: what is wrong with a row beyond its name and its split, None where nothing is.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    table, notes = read_table(path, columns)
    rows: dict[str, Row] = {}
    for line, values in table:
        row = dict(zip(columns, values, strict=True))
        name = values[0]
        if not is_file_name(name):
            fault: str | None = f"{name!r} is no clip name"
        elif row["split"] not in SPLITS:
            fault = f"unknown split {row['split']!r}"
        elif name in rows:
            fault = "the clip is in the table already"
        else:
            fault = fault_of(row)
        if fault is None:
            rows[name] = row
        else:
            notes.append(f"{path} line {line}: {fault}; row left out: {','.join(values)}")
    return list(rows.values()), notes


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


def existing(paths: Iterable[Path], expected: int) -> Masks:
    """The mask of each segment: a path where the file is there, else None; None beyond the `expected` first ones."""
    return tuple(path if number < expected and path.is_file() else None for number, path in enumerate(paths))


def notes_on_files(base: Path, clips: Sequence[Clip], masks: Sequence[Masks], expected: int) -> list[str]:
    """Notes on clips that come from their raw videos, and on masks that should be there and are not."""
    notes = []
    if from_video := sum(clip.frames is None for clip in clips):
        notes.append(
            f"{base}: {from_video} of {len(clips)} clips lack some of their frame pictures: raw_videos is used for them"
        )
    if missing := expected - sum(mask is not None for of_clip in masks for mask in of_clip):
        notes.append(f"{base}: {missing} of {expected} masks are missing")
    return notes


def subset_dataset(
    name: str,
    root: Path,
    subset: str,
    clips: Sequence[Clip],
    samples: Sequence[Sample],
    notes: Sequence[str],
) -> Dataset:
    """The Dataset of one subset, with the facts of its manifest."""
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
        notes=tuple(notes),
    )
