"""AVSBench AVSS (71 classes, masks of class ids) in the layout of the authors' archive.

It has three parts: `v1s` and `v1m` (the clips of S4 and MS3, 5 s) and `v2` (10 s). Files are numbered from 0. Pixels of
`labels_semantic` hold class ids from 0, background; the dataset's `label2idx.json` counts the same classes from 1.
"""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Row, existing, notes_on_files, subset_dataset, usable_rows
from avpipe.pipeline.datasets.registry import register
from avpipe.pipeline.manifest import Clip, Dataset, Sample

NAME, SUBSET = "avsbench-avss", "avss"
TABLE = "metadata.csv"
MARKERS = (TABLE,)

SEGMENTS = {"v1s": 5, "v1m": 5, "v2": 10}
"""Segments of a clip by part."""


@register(NAME, markers=MARKERS)
def read_avss(name: str, root: Path) -> Dataset:
    """Reads the AVSS subset.

    Args:
        name: `avsbench-avss`.
        root: the folder that holds `metadata.csv` and the parts.

    Returns:
        One sample a clip, in the order of the table; clips have 5 or 10 segments. Masks are the `labels_semantic`
        files; those of a training sample of v1s are its first one and None. A clip whose files do not exist is still
        listed. Rows that cannot be used are in the notes.

    Raises:
        UsageError: the table is missing or is no CSV file.
    """
    rows, notes = usable_rows(root / TABLE, ("uid", "split", "label"), _fault_of)
    clips, samples, masks, expected = [], [], [], 0
    for row in rows:
        part, split = row["label"], row["split"]
        folder, numbers = root / part / row["uid"], range(SEGMENTS[part])
        pictures, drawn = folder / "frames", folder / "labels_semantic"
        frames = tuple(pictures / f"{number}.jpg" for number in numbers)
        clip = Clip(f"{SUBSET}/{row['uid']}", SEGMENTS[part], frames=frames, audio=folder / "audio.wav")
        annotated = 1 if (part, split) == ("v1s", "train") else len(numbers)
        masks.append(existing((drawn / f"{number}.png" for number in numbers), annotated))
        expected += annotated
        clips.append(clip)
        samples.append(Sample(clip.id, clip.id, split, subset=SUBSET, masks=masks[-1]))
    notes += notes_on_files(root, clips, masks, expected)
    return subset_dataset(name, root, SUBSET, clips, samples, notes)


def _fault_of(row: Row) -> str | None:
    return None if row["label"] in SEGMENTS else f"unknown label {row['label']!r} (v1s, v1m or v2)"
