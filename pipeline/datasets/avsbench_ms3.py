"""AVSBench MS3 (several sounding objects, binary masks), as in the authors' archive or flattened."""

from __future__ import annotations

import re
from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, read_subset
from avpipe.pipeline.datasets.avsbench_files import Shelf, find_layout, markers, object_clip
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.tables import Row
from avpipe.pipeline.manifest import Dataset

NAME = "avsbench-ms3"
BASE, SHORT, TABLE = "Multi-sources", "ms3", "ms3_meta_data.csv"
MARKERS = markers(BASE, SHORT, TABLE)
COLUMNS = ("video_id", "split")
_ID_LETTERS = 11
"""A YouTube id; longer names end with the number of a clip."""


@register(NAME, markers=MARKERS)
def read_ms3(name: str, root: Path) -> Dataset:
    """Reads the MS3 subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-ms3`.
        root: the folder that holds `Multi-sources`, or `Multi-sources` itself; or the folder that holds a flat `ms3`.

    Returns:
        Frames and wav are used where they exist, the raw video otherwise. Names of frames have `.mp4` inside.
    """
    layout = find_layout(root, BASE, SHORT, TABLE)
    data, numbers = layout.data, range(1, int(manifest_of(name)["timeline"]["segments"]) + 1)

    shelf = Shelf()

    def entry_of(row: Row) -> Entry:
        video, split = row["video_id"], row["split"]
        of_split, of_clip = (Path(), Path()) if layout.flat else (Path(split), Path(video))
        frames = shelf.numbered(data / "visual_frames" / of_clip, (f"{video}.mp4", video), numbers)
        masks = shelf.numbered(data / "gt_masks" / of_split / of_clip, (video, f"{video}.mp4"), numbers)
        audio, raw = data / "audio_wav" / of_split / f"{video}.wav", data / "raw_videos" / f"{video}.mp4"
        clip = object_clip(shelf, f"ms3/{video}", frames, audio, raw, source=recording(video))
        return Entry(clip, masks, annotated=len(masks), media=(*frames, audio, raw))

    return read_subset(name, root, layout.table, shelf, COLUMNS, COLUMNS, entry_of)


def recording(name: str) -> str:
    """Id of the recording that a clip of MS3 was cut from: its name without the clip's number, if it has one."""
    return re.sub(r"_\d+$", "", name) if len(name) > _ID_LETTERS else name
