"""What the subsets of AVSBench have in common: tables with checked rows, clips of separate files, the Dataset.

A clip's id is `<subset>/<name>` under every dataset name, so `avsbench` and `avsbench-<subset>` share a cache.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.avsbench_files import Shelf
from avpipe.pipeline.datasets.registry import manifest_of
from avpipe.pipeline.datasets.tables import Columns, Row, read_table
from avpipe.pipeline.datasets.text import at_line, is_file_name
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

Masks = tuple[Path | None, ...]
FRAMES_FROM_VIDEO, SOUND_FROM_VIDEO = "from-video", "sound-from-video"
"""Kinds of notes on clips whose raw video stands in for missing files."""
_SHOWN = 3
"""Names that a finding on many clips or files gives."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row of a table stands for.

    Attributes:
        clip: with the files that are there.
        masks: where the mask of each segment would be.
        annotated: how many segments, from the first one on, have a mask by the dataset's rules.
        media: every media file that the layout has for the clip, there or not; empty where the clip names them all.
    """

    clip: Clip
    masks: tuple[Path, ...]
    annotated: int
    media: tuple[Path, ...] = ()


Fault = tuple[str, str]
"""Kind and words of what is wrong with a row."""


def no_fault(row: Row) -> Fault | None:
    """For tables whose names and splits are all that can be wrong."""
    return None


def any_row(row: Row) -> bool:
    """For tables whose columns cannot be taken for one another."""
    return True


def read_subset(
    name: str,
    root: Path,
    table: Path,
    shelf: Shelf,
    columns: tuple[str, ...],
    needed: tuple[str, ...],
    entry_of: Callable[[Row], Entry],
    fault_of: Callable[[Row], Fault | None] = no_fault,
    fits: Callable[[Row], bool] = any_row,
    optional: tuple[str, ...] = (),
) -> Dataset:
    """Reads one subset.

    Args:
        name: name of the subset as a dataset: `avsbench-<subset>`.
        root: the dataset's folder.
        table: its table, a CSV file with a header.
        shelf: knows which files are there.
        columns: its columns in official order.
        needed: those that it must have; the first one names the clip, and `split` is among them.
        entry_of: files and masks of a row that can be used.
        fault_of: what is wrong with a row beyond its name and its split, None where nothing is.
        fits: whether a row without a fault could be one, by which a header that is wrong about the columns is known.
        optional: columns whose values rows have where the table has them.

    Returns:
        One sample a clip, in the order of the table; a clip whose files do not exist is still listed. Rows that cannot
        be used and files that are missing are in the findings.

    Raises:
        UnusableAnnotations: the table is missing or is no such table.
    """
    subset = name.removeprefix("avsbench-")
    rows, findings, left_out = _usable_rows(table, needed, fault_of, fits, columns, optional)
    entries = [entry_of(row) for row in rows]
    masks = [_existing(shelf, entry.masks, entry.annotated) for entry in entries]
    clips = [entry.clip for entry in entries]
    samples = [
        Sample(clip.id, clip.id, row["split"], subset=subset, masks=drawn)
        for clip, row, drawn in zip(clips, rows, masks, strict=True)
    ]
    findings += _on_files(table.parent, clips, entries, masks)
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
        left_out=left_out,
        spare_media=tuple(path for entry in entries for path in _unread(entry)),
        mask_files=tuple(path for entry in entries for path in entry.masks[: entry.annotated]),
    )


def _unread(entry: Entry) -> list[Path]:
    """Media files of the layout that the clip is not read from."""
    read = {*entry.clip.media()} if entry.media else ()
    return [path for path in entry.media if path not in read]


def _usable_rows(
    path: Path,
    needed: tuple[str, ...],
    fault_of: Callable[[Row], Fault | None],
    fits: Callable[[Row], bool],
    columns: tuple[str, ...],
    optional: tuple[str, ...],
) -> tuple[list[Row], list[Finding], dict[str, int]]:
    """Rows of a table that can be used; a finding with its line number for every other one; how many these are.

    See `read_subset` and `Dataset.left_out`.
    """

    def fault_alone(row: Row) -> Fault | None:
        if not is_file_name(row[needed[0]]):
            return "bad-id", f"{row[needed[0]]!r} is no clip name"
        if row["split"] not in SPLITS:
            return "unknown-split", f"unknown split {row['split']!r}"
        return fault_of(row)

    def fits_alone(row: Row) -> bool:
        return fault_alone(row) is None and fits(row)

    table = read_table(path, Columns(columns, needed, fits_alone, optional=optional))
    rows: dict[str, Row] = {}
    lines: dict[str, int] = {}
    told, lost = [], []
    for line, row in table.rows:
        name, fault = row[needed[0]], fault_alone(row)
        if fault is None and name in rows:
            fault = "duplicate-id", f"{name!r} is in line {lines[name]} already, split {rows[name]['split']}"
        if fault is None:
            rows[name], lines[name] = row, line
        else:
            lost.append((row["split"],))
            told.append(Finding(fault[0], at_line(path, line), fault[1], f"row left out: {','.join(row.values())!r}"))
    splits = [next((field for field in fields if field in SPLITS), "") for fields in (*lost, *table.broken)]
    left_out = Counter(f"samples of {split}" if split else "samples" for split in splits)
    return list(rows.values()), table.told(path, told), dict(left_out)


def _existing(shelf: Shelf, paths: Sequence[Path], expected: int) -> Masks:
    """The mask of each segment: a path where the file is there, else None; None beyond the `expected` first ones."""
    return tuple(path if number < expected and shelf.has(path) else None for number, path in enumerate(paths))


def _on_files(base: Path, clips: Sequence[Clip], entries: Sequence[Entry], masks: Sequence[Masks]) -> list[Finding]:
    """Clips that come from their raw videos, and masks that should be there and are not."""
    findings = []
    without = {
        FRAMES_FROM_VIDEO: ("some of their frame pictures", [clip.id for clip in clips if clip.frames is None]),
        SOUND_FROM_VIDEO: ("their wav", [clip.id for clip in clips if clip.audio is None]),
    }
    for kind, (files, from_video) in without.items():
        if from_video:
            lacking = f"{len(from_video)} of {len(clips)} clips lack {files}: {_first(from_video)}"
            findings.append(Finding(kind, str(base), lacking, "raw_videos is used for them", NOTE))
    expected = sum(entry.annotated for entry in entries)
    missing = [
        mask
        for entry, drawn in zip(entries, masks, strict=True)
        for mask, there in zip(entry.masks[: entry.annotated], drawn, strict=False)
        if there is None
    ]
    if missing:
        named = [os.path.relpath(mask, base) for mask in missing[: _SHOWN + 1]]
        lacking = f"{len(missing)} of {expected} masks are missing: {_first(named)}"
        findings.append(Finding("missing-masks", str(base), lacking, "their segments count as not annotated"))
    return findings


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
