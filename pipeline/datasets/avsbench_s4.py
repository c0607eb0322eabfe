"""AVSBench S4 (one sounding object, binary masks), as in the authors' archive or flattened.

A training clip has one mask, that of its first frame; clips for validation and test have one a second.
"""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, Fault, read_subset
from avpipe.pipeline.datasets.avsbench_files import Shelf, find_layout, markers, object_clip
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.tables import Row
from avpipe.pipeline.manifest import Dataset

NAME = "avsbench-s4"
BASE, SHORT, TABLE = "Single-source", "s4", "s4_meta_data.csv"
MARKERS = markers(BASE, SHORT, TABLE)
COLUMNS, NEEDED = ("name", "start", "category", "split"), ("name", "category", "split")
START = "start"


@register(NAME, markers=MARKERS)
def read_s4(name: str, root: Path) -> Dataset:
    """Reads the S4 subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-s4`.
        root: the folder that holds `Single-source`, or `Single-source` itself; or the folder that holds a flat `s4`.

    Returns:
        Frames and wav are used where they exist, the raw video otherwise. The masks of a training sample are its first
        one and None.
    """
    manifest = manifest_of(name)
    layout = find_layout(root, BASE, SHORT, TABLE)
    data, numbers = layout.data, range(1, int(manifest["timeline"]["segments"]) + 1)
    categories = frozenset(manifest["categories"])

    def fault_of(row: Row) -> Fault | None:
        return None if row["category"] in categories else ("unknown-class", f"unknown category {row['category']!r}")

    shelf = Shelf()

    def entry_of(row: Row) -> Entry:
        video = row["name"]
        place, of_clip = (Path(), Path()) if layout.flat else (Path(row["split"], row["category"]), Path(video))
        frames = shelf.numbered(data / "visual_frames" / place / of_clip, (video,), numbers)
        masks = shelf.numbered(data / "gt_masks" / place / of_clip, (video,), numbers)
        audio, raw = data / "audio_wav" / place / f"{video}.wav", data / "raw_videos" / place / f"{video}.mp4"
        clip = object_clip(shelf, f"s4/{video}", frames, audio, raw, source=video)
        return Entry(clip, masks, 1 if row["split"] == "train" else len(masks), media=(*frames, audio, raw))

    return read_subset(name, root, layout.table, shelf, COLUMNS, NEEDED, entry_of, fault_of, _fits, (START,))


def _fits(row: Row) -> bool:
    """Whether the start is a number, which tells its column from that of the names; it is not used otherwise."""
    return row.get(START, "0").isdecimal()
