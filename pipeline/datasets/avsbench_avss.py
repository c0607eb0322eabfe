"""AVSBench AVSS (71 classes, masks of class ids) in the layout of the authors' archive.

It has three parts: `v1s` and `v1m` (the clips of S4 and MS3, 5 s) and `v2` (10 s). Files are numbered from 0. Pixels of
`labels_semantic` hold class ids from 0, background; the dataset's `label2idx.json` counts the same classes from 1.
"""

from __future__ import annotations

import csv
from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, Row, read_subset
from avpipe.pipeline.datasets.registry import register
from avpipe.pipeline.manifest import Clip, Dataset

NAME = "avsbench-avss"
TABLE = "metadata.csv"
MARKERS = (TABLE,)
COLUMNS = ("uid", "split", "label")

SEGMENTS = {"v1s": 5, "v1m": 5, "v2": 10}
"""Segments of a clip by part."""
_LONGEST_HEADER = 1000
"""Characters; a file that is no table may be one endless line."""


def is_table_of_avss(root: Path) -> bool:
    """Whether the `metadata.csv` in `root` is that of AVSS: many things have a file of this name."""
    if any((root / part).is_dir() for part in SEGMENTS):
        return True
    with (root / TABLE).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader([file.readline(_LONGEST_HEADER)]), [])
    return set(COLUMNS) <= {field.strip() for field in header}


@register(NAME, markers=MARKERS, confirm=is_table_of_avss)
def read_avss(name: str, root: Path) -> Dataset:
    """Reads the AVSS subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-avss`.
        root: the folder that holds `metadata.csv` and the parts.

    Returns:
        Clips have 5 or 10 segments. Masks are the `labels_semantic` files; those of a training sample of v1s are its
        first one and None.
    """

    def entry_of(row: Row) -> Entry:
        part, folder = row["label"], root / row["label"] / row["uid"]
        numbers = range(SEGMENTS[part])
        frames = tuple(folder / "frames" / f"{number}.jpg" for number in numbers)
        clip = Clip(f"avss/{row['uid']}", SEGMENTS[part], frames=frames, audio=folder / "audio.wav")
        masks = tuple(folder / "labels_semantic" / f"{number}.png" for number in numbers)
        return Entry(clip, masks, annotated=1 if (part, row["split"]) == ("v1s", "train") else len(masks))

    return read_subset(name, root, root / TABLE, COLUMNS, entry_of, _fault_of)


def _fault_of(row: Row) -> str | None:
    return None if row["label"] in SEGMENTS else f"unknown label {row['label']!r} (v1s, v1m or v2)"
