"""AVSBench S4 (one sounding object, binary masks) in the layout of the authors' archive.

A training clip has one mask, that of its first frame; clips for validation and test have one a second.
"""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, Row, object_clip, read_subset
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.manifest import Dataset

NAME = "avsbench-s4"
BASE, TABLE = "Single-source", "s4_meta_data.csv"
MARKERS = (f"{BASE}/{TABLE}", TABLE)


@register(NAME, markers=MARKERS)
def read_s4(name: str, root: Path) -> Dataset:
    """Reads the S4 subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-s4`.
        root: the folder that holds `Single-source`, or `Single-source` itself.

    Returns:
        Frames and wav are used where they exist, the raw video otherwise. The masks of a training sample are its first
        one and None.
    """
    manifest = manifest_of(name)
    base = root / BASE if (root / BASE / TABLE).is_file() else root
    data, numbers = base / "s4_data", range(1, int(manifest["timeline"]["segments"]) + 1)
    categories = frozenset(manifest["categories"])

    def fault_of(row: Row) -> str | None:
        return None if row["category"] in categories else f"unknown category {row['category']!r}"

    def entry_of(row: Row) -> Entry:
        video, place = row["name"], Path(row["split"], row["category"])
        pictures, drawn = data / "visual_frames" / place / video, data / "gt_masks" / place / video
        clip = object_clip(
            f"s4/{video}",
            frames=tuple(pictures / f"{video}_{number}.png" for number in numbers),
            audio=data / "audio_wav" / place / f"{video}.wav",
            video=data / "raw_videos" / place / f"{video}.mp4",
        )
        masks = tuple(drawn / f"{video}_{number}.png" for number in numbers)
        return Entry(clip, masks, annotated=1 if row["split"] == "train" else len(masks))

    return read_subset(name, root, base / TABLE, ("name", "category", "split"), entry_of, fault_of)
