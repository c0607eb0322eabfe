"""AVSBench in the layout of the authors' archive. Of its subsets, MS3 (several sounding objects) is read.

A clip's id is `<subset>/<name>` under every dataset name, so `avsbench` and `avsbench-ms3` share a cache.
"""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.text import is_file_name, read_table
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

BASE = "Multi-sources"
TABLE = "ms3_meta_data.csv"
SUBSET = "ms3"

_MARKERS = (f"{BASE}/{TABLE}", TABLE)
_NOT_READ = {
    "Single-source": "the S4 subset (Single-source)",
    "v1s": "the AVSS subset (v1s)",
    "v1m": "the AVSS subset (v1m)",
    "v2": "the AVSS subset (v2)",
}


@register("avsbench-ms3", markers=_MARKERS)
@register("avsbench", markers=_MARKERS, manifest="avsbench-ms3", not_read=_NOT_READ)
def read_ms3(name: str, root: Path) -> Dataset:
    """Reads the MS3 subset.

    Args:
        name: `avsbench` or `avsbench-ms3`.
        root: the folder that holds `Multi-sources`, or `Multi-sources` itself.

    Returns:
        One sample a clip, in the order of the table. Frames and wav are used where they exist, the raw video otherwise;
        a clip of which nothing exists is still listed. Rows that cannot be used are in the notes.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    manifest = manifest_of(name)
    base = root / BASE if (root / BASE / TABLE).is_file() else root
    segments = int(manifest["timeline"]["segments"])
    rows, notes = _read_rows(base / TABLE)
    clips, samples, from_video, unmasked = [], [], 0, 0
    for clip_name, split in rows:
        clip = _clip(base / "ms3_data", clip_name, split, segments)
        masks = _masks(base / "ms3_data", clip_name, split, segments)
        from_video += clip.frames is None
        unmasked += masks.count(None)
        clips.append(clip)
        samples.append(Sample(clip.id, clip.id, split, subset=SUBSET, masks=masks))
    if from_video:
        notes.append(
            f"{base}: {from_video} of {len(rows)} clips lack some of their frame pictures: raw_videos is used for them"
        )
    if unmasked:
        notes.append(f"{base}: {unmasked} of {len(rows) * segments} masks are missing")
    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=tuple(manifest["classes"]),
        timeline=Timeline(manifest["timeline"]["segment_seconds"], manifest["timeline"]["frame_position"]),
        clips=tuple(clips),
        samples=tuple(samples),
        subsets=(SUBSET,),
        notes=tuple(notes),
    )


def _read_rows(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Name and split of every usable row, and a note for every other one."""
    table, notes = read_table(path, ("video_id", "split"))
    rows: dict[str, str] = {}
    for line, (name, split) in table:
        if not is_file_name(name):
            fault = f"{name!r} is no clip name"
        elif split not in SPLITS:
            fault = f"unknown split {split!r}"
        elif name in rows:
            fault = "the clip is in the table already"
        else:
            rows[name] = split
            continue
        notes.append(f"{path} line {line}: {fault}; row left out: {name},{split}")
    return list(rows.items()), notes


def _clip(data: Path, name: str, split: str, segments: int) -> Clip:
    """The clip with what exists of it; where nothing does, with the files that should."""
    pictures = data / "visual_frames" / name
    frames = tuple(pictures / f"{name}.mp4_{number}.png" for number in range(1, segments + 1))
    audio = data / "audio_wav" / split / f"{name}.wav"
    video = data / "raw_videos" / f"{name}.mp4"
    if not video.is_file():
        return Clip(f"{SUBSET}/{name}", segments, frames=frames, audio=audio)
    return Clip(
        f"{SUBSET}/{name}",
        segments,
        video=video,
        frames=frames if all(frame.is_file() for frame in frames) else None,
        audio=audio if audio.is_file() else None,
    )


def _masks(data: Path, name: str, split: str, segments: int) -> tuple[Path | None, ...]:
    folder = data / "gt_masks" / split / name
    paths = (folder / f"{name}_{number}.png" for number in range(1, segments + 1))
    return tuple(path if path.is_file() else None for path in paths)
