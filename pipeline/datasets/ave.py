"""AVE: one class event per row, several rows on some videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from avpipe.pipeline.datasets.ave_match import match
from avpipe.pipeline.datasets.ave_rows import HEADER, Placed, read_rows, read_set
from avpipe.pipeline.datasets.places import find_places
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.text import gather
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Dataset, Sample
from avpipe.pipeline.media.pictures import one_per_segment
from avpipe.pipeline.timeline import Timeline

ANNOTATIONS = "Annotations.txt"
BASE = "AVE_Dataset"

VIDEOS = ("AVE", "video", "videos")
FRAMES = ("video_frames", "frames", "frame")
SOUNDS = ("raw_audio", "audio", "wave")
"""Folders of media: the archive's, and those that other repositories make from it."""


@register("ave", markers=(f"{BASE}/{ANNOTATIONS}", ANNOTATIONS))
def read_ave(name: str, root: Path) -> Dataset:
    """Reads AVE.

    Args:
        name: `ave`.
        root: the folder that holds `AVE_Dataset`, or `AVE_Dataset` itself.

    Returns:
        Samples in the order of the Set files; a sample's id is its row in Annotations.txt (from 0, header not counted)
        and its video, such as `26:VWi2ENBuTbw`; `labels` is its category, the label of the weak setting. A video is one
        clip, however many rows it has, and is listed whether its file exists or not. Rows that cannot be used are in
        the findings.

    Raises:
        UnusableAnnotations: Annotations.txt or every Set file is missing or is no text, or no row can be read.
    """
    manifest = manifest_of(name)
    base = root / BASE if (root / BASE / ANNOTATIONS).is_file() else root
    classes, segments = tuple(manifest["classes"]), int(manifest["timeline"]["segments"])
    position = float(manifest["timeline"]["frame_position"])
    annotations = read_rows(base / ANNOTATIONS, classes, segments, headed=True)
    if not annotations.rows:
        faults = annotations.findings
        reason = f"no row of the form {HEADER}: {faults[0]}" if faults else "no row"
        raise UnusableAnnotations(base / ANNOTATIONS, f"has {reason}; fetch the file again")
    sets = {split: read_set(base / f"{split}Set.txt", split, classes, segments) for split in SPLITS}
    if not any(file.there for file in sets.values()):
        first = next(iter(sets.values())).findings[0]
        raise UnusableAnnotations(first.where, f"{first.what}; the other Set files cannot be read either")
    matched, unmatched, left_out = match(base / ANNOTATIONS, annotations, sets)
    files = {base / ANNOTATIONS: annotations} | {base / f"{split}Set.txt": file for split, file in sets.items()}
    for path, file in files.items():
        unmatched = gather(unmatched, path, file.count)
    rows = [placed for _, placed in matched]
    findings = [*annotations.findings, *(finding for file in sets.values() for finding in file.findings), *unmatched]
    in_order = sorted(rows, key=lambda placed: placed.number)
    videos = dict.fromkeys(placed.row.video for placed in in_order)
    places = find_places((base,), VIDEOS, FRAMES, SOUNDS)
    pick = partial(one_per_segment, segments=segments, position=position)
    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=classes,
        timeline=Timeline(manifest["timeline"]["segment_seconds"], position),
        clips=tuple(places.clip(video, video, segments, pick) for video in videos),
        samples=tuple(_sample(split, placed, classes, segments) for split, placed in matched),
        findings=(*findings, *_oddities(in_order)),
        left_out=left_out,
    )


def _sample(split: str, placed: Placed, classes: tuple[str, ...], segments: int) -> Sample:
    row = placed.row
    event, background = classes.index(row.category), len(classes) - 1
    events = tuple(event if row.start <= segment < row.end else background for segment in range(segments))
    return Sample(f"{placed.number}:{row.video}", row.video, split, events=events, labels=(event,))


def _oddities(rows: Sequence[Placed]) -> list[Finding]:
    """Rows without an event, and videos with several rows, which give one video several targets."""
    by_video: dict[str, list[Placed]] = defaultdict(list)
    findings = []
    for placed in rows:
        row = placed.row
        by_video[row.video].append(placed)
        if row.start == row.end:
            empty = f"event from {row.start} to {row.end}, so all background"
            findings.append(Finding("empty-event", placed.where, empty, level=NOTE))
    for video, several in by_video.items():
        if len(several) > 1:
            others = ", ".join(f"{p.row.category!r} in line {p.where.rpartition(' ')[2]}" for p in several[1:])
            what = f"{several[0].row.category!r} on video {video}, which has {others} as well"
            findings.append(Finding("several-rows", several[0].where, what, "each row is a sample of its own", NOTE))
    return findings
