"""AVE in the layout of the authors' archive: one class event per row, several rows on some videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.text import is_file_name, read_lines
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

ANNOTATIONS = "Annotations.txt"
BASE = "AVE_Dataset"


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation: `category` from second `start` to second `end` of video `video`."""

    category: str
    video: str
    start: int
    end: int


@register("ave", markers=(f"{BASE}/{ANNOTATIONS}", ANNOTATIONS))
def read_ave(name: str, root: Path) -> Dataset:
    """Reads AVE.

    Args:
        name: `ave`.
        root: the folder that holds `AVE_Dataset`, or `AVE_Dataset` itself.

    Returns:
        Samples in the order of the Set files; a sample's id is its row in Annotations.txt (from 0, header not counted)
        and its video, such as `26:VWi2ENBuTbw`. A video is one clip, however many rows it has, and is listed whether
        its file exists or not. Rows that cannot be used are in the findings.

    Raises:
        UsageError: an annotation file is missing or is no text.
    """
    manifest = manifest_of(name)
    base = root / BASE if (root / BASE / ANNOTATIONS).is_file() else root
    classes, segments = tuple(manifest["classes"]), int(manifest["timeline"]["segments"])
    findings: list[Finding] = []
    rows = _read_rows(base / ANNOTATIONS, classes, segments, findings)
    samples = _match_splits(base, rows, classes, segments, findings)
    used = {sample.clip for sample in samples}
    videos = dict.fromkeys(row.video for row in rows.values() if row.video in used)
    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=classes,
        timeline=Timeline(manifest["timeline"]["segment_seconds"], manifest["timeline"]["frame_position"]),
        clips=tuple(Clip(video, segments, video=base / "AVE" / f"{video}.mp4") for video in videos),
        samples=samples,
        findings=tuple(findings),
    )


def _read_rows(path: Path, classes: tuple[str, ...], segments: int, findings: list[Finding]) -> dict[int, Row]:
    """Usable rows of one file by row number; a row that cannot be used keeps its number and gets a finding."""
    lines = read_lines(path)
    # The archive's file has a header, the copy in the authors' repository has none: a fixed choice shifts every label.
    first = 1 if lines and lines[0].split("&")[0].strip().lower() == "category" else 0
    rows = {}
    for number, line in enumerate(lines[first:]):
        row, where = _parse(line, classes, segments), f"{path} line {first + number + 1}"
        if isinstance(row, Row):
            rows[number] = row
            if row.start == row.end:
                empty = f"event from {row.start} to {row.end}, so all background"
                findings.append(Finding("empty-event", where, empty, level=NOTE))
        else:
            findings.append(Finding("broken-row", where, row, f"row left out: {line!r}"))
    return rows


def _parse(line: str, classes: tuple[str, ...], segments: int) -> Row | str:
    """The row on a line, or what is wrong with it."""
    fields = [field.strip() for field in line.split("&")]
    if len(fields) != 5:
        return f"{len(fields)} fields instead of 5"
    category, video, _, start, end = fields
    if category not in classes[:-1]:
        return f"unknown category {category!r}"
    if not is_file_name(video):
        return f"{video!r} is no video id"
    if not (start.isdecimal() and end.isdecimal() and int(start) <= int(end) <= segments):
        return f"start {start} and end {end} are no whole seconds of a {segments} s clip"
    return Row(category, video, int(start), int(end))


def _match_splits(
    base: Path, rows: Mapping[int, Row], classes: tuple[str, ...], segments: int, findings: list[Finding]
) -> tuple[Sample, ...]:
    """Samples in the order of the Set files, each matched to its row of Annotations.txt, which gives its number."""
    free: dict[Row, list[int]] = defaultdict(list)
    for number in sorted(rows, reverse=True):
        free[rows[number]].append(number)
    samples = []
    for split in SPLITS:
        path = base / f"{split}Set.txt"
        own: list[Finding] = []
        # Findings on the row's own faults were written for Annotations.txt, unless the two files differ.
        for line_number, row in _read_rows(path, classes, segments, own).items():
            if free[row]:
                samples.append(_sample(free[row].pop(), row, split, classes, segments))
            else:
                lacking, where = f"no such row left in {ANNOTATIONS}", f"{path} line {line_number + 1}"
                findings.append(Finding("unmatched-row", where, lacking, f"row left out: {row}"))
        findings += [finding for finding in own if finding.kind != "empty-event"]
    unused = sorted(number for numbers in free.values() for number in numbers)
    findings += [
        Finding(
            "no-split", f"{base / ANNOTATIONS} row {number}", "in none of the Set files", f"left out: {rows[number]}"
        )
        for number in unused
    ]
    return tuple(samples)


def _sample(number: int, row: Row, split: str, classes: tuple[str, ...], segments: int) -> Sample:
    event, background = classes.index(row.category), len(classes) - 1
    events = tuple(event if row.start <= segment < row.end else background for segment in range(segments))
    return Sample(f"{number}:{row.video}", row.video, split, events=events)
