"""AVSBench S4 (one sounding object, binary masks) in the layout of the authors' archive.

A training clip has one mask, that of its first frame; clips for validation and test have one a second.
"""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import (
    Row,
    existing,
    notes_on_files,
    object_clip,
    subset_dataset,
    usable_rows,
)
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.manifest import Dataset, Sample

NAME, SUBSET = "avsbench-s4", "s4"
BASE, TABLE = "Single-source", "s4_meta_data.csv"
MARKERS = (f"{BASE}/{TABLE}", TABLE)


@register(NAME, markers=MARKERS)
def read_s4(name: str, root: Path) -> Dataset:
    """Reads the S4 subset.

    Args:
        name: `avsbench-s4`.
        root: the folder that holds `Single-source`, or `Single-source` itself.

    Returns:
        One sample a clip, in the order of the table. Frames and wav are used where they exist, the raw video otherwise;
        a clip of which nothing exists is still listed. The masks of a training sample are its first one and None.
        Rows that cannot be used are in the notes.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    manifest = manifest_of(name)
    base = root / BASE if (root / BASE / TABLE).is_file() else root
    data, numbers = base / "s4_data", range(1, int(manifest["timeline"]["segments"]) + 1)
    categories = frozenset(manifest["categories"])

    def fault_of(row: Row) -> str | None:
        return None if row["category"] in categories else f"unknown category {row['category']!r}"

    rows, notes = usable_rows(base / TABLE, ("name", "category", "split"), fault_of)
    clips, samples, masks, expected = [], [], [], 0
    for row in rows:
        video, split = row["name"], row["split"]
        place = Path(split, row["category"])
        pictures, drawn = data / "visual_frames" / place / video, data / "gt_masks" / place / video
        clip = object_clip(
            f"{SUBSET}/{video}",
            frames=tuple(pictures / f"{video}_{number}.png" for number in numbers),
            audio=data / "audio_wav" / place / f"{video}.wav",
            video=data / "raw_videos" / place / f"{video}.mp4",
        )
        annotated = 1 if split == "train" else len(numbers)
        masks.append(existing((drawn / f"{video}_{number}.png" for number in numbers), annotated))
        expected += annotated
        clips.append(clip)
        samples.append(Sample(clip.id, clip.id, split, subset=SUBSET, masks=masks[-1]))
    notes += notes_on_files(base, clips, masks, expected)
    return subset_dataset(name, root, SUBSET, clips, samples, notes)
