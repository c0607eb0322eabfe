"""AVSBench MS3 (several sounding objects, binary masks) in the layout of the authors' archive."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import (
    existing,
    notes_on_files,
    object_clip,
    subset_dataset,
    usable_rows,
)
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.manifest import Dataset, Sample

NAME, SUBSET = "avsbench-ms3", "ms3"
BASE, TABLE = "Multi-sources", "ms3_meta_data.csv"
MARKERS = (f"{BASE}/{TABLE}", TABLE)


@register(NAME, markers=MARKERS)
def read_ms3(name: str, root: Path) -> Dataset:
    """Reads the MS3 subset.

    Args:
        name: `avsbench-ms3`.
        root: the folder that holds `Multi-sources`, or `Multi-sources` itself.

    Returns:
        One sample a clip, in the order of the table. Frames and wav are used where they exist, the raw video otherwise;
        a clip of which nothing exists is still listed. Rows that cannot be used are in the notes.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    base = root / BASE if (root / BASE / TABLE).is_file() else root
    data, numbers = base / "ms3_data", range(1, int(manifest_of(name)["timeline"]["segments"]) + 1)
    rows, notes = usable_rows(base / TABLE, ("video_id", "split"))
    clips, samples, masks = [], [], []
    for row in rows:
        video, split = row["video_id"], row["split"]
        pictures = data / "visual_frames" / video
        clip = object_clip(
            f"{SUBSET}/{video}",
            frames=tuple(pictures / f"{video}.mp4_{number}.png" for number in numbers),
            audio=data / "audio_wav" / split / f"{video}.wav",
            video=data / "raw_videos" / f"{video}.mp4",
        )
        drawn = data / "gt_masks" / split / video
        masks.append(existing((drawn / f"{video}_{number}.png" for number in numbers), len(numbers)))
        clips.append(clip)
        samples.append(Sample(clip.id, clip.id, split, subset=SUBSET, masks=masks[-1]))
    notes += notes_on_files(base, clips, masks, len(rows) * len(numbers))
    return subset_dataset(name, root, SUBSET, clips, samples, notes)
