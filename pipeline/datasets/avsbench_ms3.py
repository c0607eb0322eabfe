"""AVSBench MS3 (several sounding objects, binary masks) in the layout of the authors' archive."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, Row, object_clip, read_subset
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.manifest import Dataset

NAME = "avsbench-ms3"
BASE, TABLE = "Multi-sources", "ms3_meta_data.csv"
MARKERS = (f"{BASE}/{TABLE}", TABLE)


@register(NAME, markers=MARKERS)
def read_ms3(name: str, root: Path) -> Dataset:
    """Reads the MS3 subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-ms3`.
        root: the folder that holds `Multi-sources`, or `Multi-sources` itself.

    Returns:
        Frames and wav are used where they exist, the raw video otherwise.
    """
    base = root / BASE if (root / BASE / TABLE).is_file() else root
    data, numbers = base / "ms3_data", range(1, int(manifest_of(name)["timeline"]["segments"]) + 1)

    def entry_of(row: Row) -> Entry:
        video, split = row["video_id"], row["split"]
        pictures, drawn = data / "visual_frames" / video, data / "gt_masks" / split / video
        clip = object_clip(
            f"ms3/{video}",
            frames=tuple(pictures / f"{video}.mp4_{number}.png" for number in numbers),
            audio=data / "audio_wav" / split / f"{video}.wav",
            video=data / "raw_videos" / f"{video}.mp4",
        )
        masks = tuple(drawn / f"{video}_{number}.png" for number in numbers)
        return Entry(clip, masks, annotated=len(masks))

    return read_subset(name, root, base / TABLE, ("video_id", "split"), entry_of)
