"""What is worth knowing about a user's own table as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from avpipe.pipeline.datasets.own_media import SOUNDS, Found
from avpipe.pipeline.datasets.own_rows import Entry
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import BACKGROUND, SPLITS, Clip, Sample

_STANDS_IN = {"visual": "--missing-video blank", "audio": "--missing-audio silence"}


def remarks(
    table: Path,
    entries: Sequence[Entry],
    found: Mapping[str, Found],
    samples: Sequence[Sample],
    classes: Sequence[str],
    task: str,
) -> Iterator[Finding]:
    """Notes on splits, classes, labels and media.

    Args:
        table: the table.
        entries: rows that were used.
        found: clips of the entries.
        samples: samples of the entries.
        classes: class names in order.
        task: what is learned.
    """
    where = str(table)
    splits = {sample.split for sample in samples}
    if lacking := [split for split in SPLITS if split not in splits]:
        yield Finding("no-split", where, f"no row of split {', '.join(lacking)}", level=NOTE)
    folded: dict[str, str] = {}
    for name in classes:
        other = folded.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            yield Finding("similar-classes", where, f"{other!r} and {name!r} are two classes", level=NOTE)
    yield from _on_labels(where, entries, samples, task)
    yield from _on_modalities(where, entries, found)


def _on_labels(where: str, entries: Sequence[Entry], samples: Sequence[Sample], task: str) -> Iterator[Finding]:
    if task in ("events", "parsing") and not any(name != BACKGROUND for entry in entries for name in entry.names):
        yield Finding("no-events", where, "no row has an event or a label", "there is nothing to learn", NOTE)
    if task == "segmentation" and not any(mask for sample in samples for mask in sample.masks or ()):
        yield Finding("no-masks", where, "no row has a mask", "there is nothing to learn", NOTE)
    if weak := [s.id for s in samples if task == "parsing" and s.split != "train" and s.audio_events is None]:
        what = f"{len(weak)} samples of val or test have labels without times, such as {weak[0]!r}"
        needs = "scoring needs columns events, or audio_events and visual_events"
        yield Finding("no-events", where, what, needs, NOTE)


def _on_modalities(where: str, entries: Sequence[Entry], found: Mapping[str, Found]) -> Iterator[Finding]:
    """Rows that give only sound or only pictures: one note where all do, else one for each."""
    rows: dict[str, str] = {}
    for entry in entries:
        rows.setdefault(entry.clip, entry.row.where)
    for modality, other in (("visual", "audio"), ("audio", "visual")):
        lacking = [clip for clip in rows if not _has(found[clip].clip, modality)]
        if len(lacking) == len(rows):
            what, done = f"no row has {modality} media", f"extract with --modality {other}"
            yield Finding("one-modality", where, what, done, NOTE)
            continue
        for clip in lacking:
            what = f"clip {clip!r} has no {modality} media, as others have"
            done = f"extraction will quarantine it, but with --modality {other} or {_STANDS_IN[modality]}"
            yield Finding("one-modality", rows[clip], what, done, NOTE)


def _has(clip: Clip, modality: str) -> bool:
    if modality == "audio":
        return clip.video is not None or clip.audio is not None
    return clip.frames is not None or (clip.video is not None and clip.video.suffix.lower() not in SOUNDS)
