"""AVSBench AVSS (71 classes, masks of class ids) in the layout of the authors' archive.

It has three parts: `v1s` and `v1m` (the clips of S4 and MS3, 5 s) and `v2` (10 s). Files are numbered from 0. Pixels of
`labels_semantic` hold class ids from 0, background; the dataset's `label2idx.json` counts the same classes from 1.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from avpipe.pipeline.datasets.avsbench_common import Entry, Fault, read_subset
from avpipe.pipeline.datasets.avsbench_files import Shelf
from avpipe.pipeline.datasets.avsbench_ms3 import recording
from avpipe.pipeline.datasets.registry import register
from avpipe.pipeline.datasets.tables import Row
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Clip, Dataset

NAME = "avsbench-avss"
TABLE, LABELS = "metadata.csv", "label2idx.json"
MARKERS = (TABLE,)
COLUMNS = ("vid", "uid", "s_min", "s_sec", "a_obj", "split", "label")
NEEDED = ("uid", "split", "label")
OBJECTS, RECORDING = "a_obj", "vid"
OFF_SCREEN = "off-the-screen"
"""What the column of objects says beside a class that is not seen."""
MASKS = ("labels_semantic", "labels_rgb")
"""Folders of masks: class ids, or the same as colours."""

SEGMENTS = {"v1s": 5, "v1m": 5, "v2": 10}
"""Segments of a clip by part."""
_LONGEST_HEADER = 1000
"""Characters; a file that is no table may be one endless line."""
_SHOWN = 5


def is_table_of_avss(root: Path) -> bool:
    """Whether the `metadata.csv` in `root` is that of AVSS: many things have a file of this name."""
    if any((root / part).is_dir() for part in SEGMENTS):
        return True
    with (root / TABLE).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader([file.readline(_LONGEST_HEADER)]), [])
    return set(NEEDED) <= {field.strip() for field in header}


@register(NAME, markers=MARKERS, confirm=is_table_of_avss)
def read_avss(name: str, root: Path) -> Dataset:
    """Reads the AVSS subset; returns and raises as `read_subset`.

    Args:
        name: `avsbench-avss`.
        root: the folder that holds `metadata.csv` and the parts.

    Returns:
        Clips have 5 or 10 segments. Masks are the `labels_semantic` files, or the `labels_rgb` files of a clip that has
        only those; those of a training sample of v1s are its first one and None.
    """
    objects: Counter[str] = Counter()

    def entry_of(row: Row) -> Entry:
        part, uid = row["label"], row["uid"]
        folder, numbers = root / part / uid, range(SEGMENTS[part])
        drawn = folder / next((kind for kind in MASKS if (folder / kind).is_dir()), MASKS[0])
        pictures = folder / "frames"
        frames = tuple(pictures / f"{number}.jpg" for number in numbers)
        masks = tuple(drawn / f"{number}.png" for number in numbers)
        source = _recording(uid, part)
        clip = Clip(f"avss/{uid}", SEGMENTS[part], frames=frames, audio=folder / "audio.wav", source=source)
        objects.update(set(row.get(OBJECTS, "").split("_")))
        annotated = 1 if (part, row["split"]) == ("v1s", "train") else len(masks)
        spare = (folder / kind / mask.name for kind in MASKS if kind != drawn.name for mask in masks[:annotated])
        return Entry(clip, masks, annotated, media=(*frames, folder / "audio.wav", *spare))

    dataset = read_subset(
        name, root, root / TABLE, Shelf(), COLUMNS, NEEDED, entry_of, _fault_of, _fits, (OBJECTS, RECORDING)
    )
    odd = {word: count for word, count in objects.items() if word and word not in dataset.classes[1:]}
    findings = [*dataset.findings, *_about_objects(root / TABLE, odd), *_about_classes(root / LABELS, dataset.classes)]
    return replace(dataset, findings=tuple(findings))


def _fault_of(row: Row) -> Fault | None:
    return None if row["label"] in SEGMENTS else ("unknown-part", f"unknown label {row['label']!r} (v1s, v1m or v2)")


def _fits(row: Row) -> bool:
    """Whether `uid` goes on where `vid` ends, which tells the two columns apart."""
    return row["uid"].startswith(row.get(RECORDING, ""))


def _recording(uid: str, part: str) -> str:
    """Id of the recording that a clip was cut from: in v1s and v2 start and end follow it, in v1m a clip's number."""
    return recording(uid) if part == "v1m" else re.sub(r"_\d+_\d+$", "", uid)


def _about_objects(table: Path, odd: dict[str, int]) -> list[Finding]:
    """One note on words of the column `a_obj` that are no classes of sounding objects."""
    if not odd.keys() - {OFF_SCREEN}:
        return []
    words = ", ".join(f"{word!r} in {count}" for word, count in sorted(odd.items(), key=lambda item: -item[1])[:_SHOWN])
    what = f"column {OBJECTS} has words that are no classes: {words} rows"
    return [Finding("odd-objects", str(table), what, "the column is not used: labels are in the masks", NOTE)]


def _about_classes(path: Path, classes: tuple[str, ...]) -> list[Finding]:
    """A finding where `label2idx.json` is there and does not count our classes from 1."""
    if not path.is_file():
        return []
    try:
        numbers = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return [Finding("class-list", str(path), f"cannot be read ({error})", "not used: the classes are known")]
    expected = {name: number for number, name in enumerate(classes, start=1)}
    if numbers == expected:
        return []
    given = numbers if isinstance(numbers, dict) else {}
    differing = [f"{n}: {given.get(n)!r}, expected {k}" for n, k in expected.items() if given.get(n) != k]
    differing += [f"{name!r} is no class" for name in given if name not in expected]
    what = f"{len(differing)} entries differ from the official list, such as {'; '.join(differing[:_SHOWN])}"
    return [Finding("class-list", str(path), what, "not used: class ids are those of the official list, from 0")]
