"""LLP (audio-visual video parsing): weak labels for every video; for val and test, what is heard and seen, and when.

The dense labels have broken rows, which the official evaluation passes over. What is read here is the ground truth that
it builds, and every such row is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.llp_dense import Dense, read_dense
from avpipe.pipeline.datasets.llp_match import differences, told
from avpipe.pipeline.datasets.llp_weak import ID_LETTERS, Weak, WeakLabels, read_weak
from avpipe.pipeline.datasets.llp_weak import TABLES as WEAK_TABLES
from avpipe.pipeline.datasets.places import find_places
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.datasets.text import gather
from avpipe.pipeline.errors import UnusableAnnotations
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Clip, Dataset, Event, Sample
from avpipe.pipeline.media.pictures import one_per_segment
from avpipe.pipeline.timeline import Timeline

BASES = ("data", ".", "AVVP-ECCV20/data")
"""Where the tables may lie below the root."""
DENSE_TABLES = {"audio": "AVVP_eval_audio.csv", "visual": "AVVP_eval_visual.csv"}

MARKERS = tuple(str(Path(base) / table) for base in BASES for table in WEAK_TABLES.values())


@register("llp", markers=MARKERS)
def read_llp(name: str, root: Path) -> Dataset:
    """Reads LLP.

    Args:
        name: `llp`.
        root: the folder that holds the tables, or their folder `data`.

    Returns:
        Samples in the order of the tables; sample and clip are called as in the tables, `<id>_<start>_<end>`. Every
        sample has the labels of its weak row, those for val and test its events as well, one for each dense row, also
        where it marks nothing. A clip is its video, else its pictures and its sound. Rows that cannot be used or that
        are odd are in the findings.

    Raises:
        UnusableAnnotations: no table of weak labels can be read.
    """
    manifest = manifest_of(name)
    classes, segments = tuple(manifest["classes"]), int(manifest["timeline"]["segments"])
    position = float(manifest["timeline"]["frame_position"])
    base = next(root / base for base in BASES if any((root / base / t).is_file() for t in WEAK_TABLES.values()))
    findings: list[Finding] = []
    weak = read_weak(base, classes, findings)
    dense: dict[str, Dense] = {}
    for modality, table in DENSE_TABLES.items():
        if not (base / table).is_file():
            what = "no such file, so val and test have no labels of this kind"
            findings.append(Finding("missing-table", str(base / table), what))
            continue
        try:
            dense[modality] = read_dense(base / table, weak.rows, classes, segments, manifest["known_rows"]["reversed"])
        except UnusableAnnotations as error:
            what = "val and test have no labels of this kind"
            findings.append(Finding("unusable", str(base / table), error.what, what))
    findings += told(weak, list(dense.values()), manifest)
    if len(dense) == len(DENSE_TABLES) and all(table.count for table in dense.values()):
        differing = differences(weak, list(dense.values()), manifest)
        for split, table in WEAK_TABLES.items():
            differing = gather(differing, base / table, sum(row.split == split for row in weak.rows.values()))
        findings += differing
    bases = (base / "LLP_dataset", *(root / other / "LLP_dataset" for other in BASES), base, root)
    places = find_places(bases, ("video", "videos"), ("frame", "frames"), ("audio", "wave"))
    pick = partial(one_per_segment, segments=segments, position=position)

    def clip_of(name: str) -> Clip:
        return places.clip(name, name[:ID_LETTERS], segments, pick, source=name[:ID_LETTERS])

    def events_of(modality: str, row: Weak) -> tuple[Event, ...] | None:
        known = modality in dense and row.split != "train"
        return dense[modality].events.get(row.name, ()) if known else None

    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=classes,
        timeline=Timeline(manifest["timeline"]["segment_seconds"], position),
        clips=tuple(clip_of(row.name) for row in weak.rows.values()),
        samples=tuple(
            Sample(
                row.name,
                row.name,
                row.split,
                labels=row.labels,
                audio_events=events_of("audio", row),
                visual_events=events_of("visual", row),
                segments=segments,
            )
            for row in weak.rows.values()
        ),
        findings=tuple(findings),
        left_out=_left_out(weak, dense, manifest),
    )


def _left_out(weak: WeakLabels, dense: Mapping[str, Dense], manifest: Mapping[str, Any]) -> dict[str, int]:
    """As in `Dataset`; rows that name no video in the official file either are no part of its counts."""
    known = manifest["known_rows"]["unmatched"]
    left_out = {f"samples of {split}": number for split, number in weak.lost.items()}
    for modality, table in dense.items():
        left_out[f"{modality} events"] = table.unread + sum(row.name not in known for row in table.orphans)
    return left_out
