"""How much there is, beside what there should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avpipe.pipeline.datasets.check.leakage import part_of
from avpipe.pipeline.findings import NO_TABLE, Finding
from avpipe.pipeline.manifest import SPLITS, Dataset

_COUNTED = ("samples", "audio events", "visual events")
"""What is compared split by split."""


@dataclass(frozen=True, slots=True)
class Count:
    """One number.

    Attributes:
        what: what is counted, such as `samples of test`.
        found: how many there are in the annotations that can be used (masks: files).
        official: how many there should be; None where that is not known.
    """

    what: str
    found: int
    official: int | None


def count(dataset: Dataset, masks: int, official: Mapping[str, Any]) -> list[Count]:
    """Counts of a dataset.

    Args:
        dataset: as read.
        masks: mask files that are there.
        official: `counts` of its manifest, or what else is known; empty where nothing is.
    """
    parts = [part_of(dataset, clip) for clip in dataset.clips]
    seen = {clip.id: clip.frames or clip.video for clip in dataset.clips}  # with whatever sound
    found: dict[str, Callable[[str], int]] = {
        "parts": lambda part: parts.count(part),
        "types": lambda kind: sum(1 for s in dataset.split("test") if s.question and s.question.type == kind),
        "videos": lambda split: len({seen[sample.clip] for sample in dataset.split(split)}),
    }
    counts = [
        Count("clips", len(dataset.clips), official.get("clips")),
        Count("samples", len(dataset.samples), official.get("samples")),
    ]
    for split in SPLITS:
        counts.append(Count(f"samples of {split}", len(dataset.split(split)), official.get("splits", {}).get(split)))
    if dataset.task in ("segmentation", "semantic"):
        counts.append(Count("masks", masks, official.get("masks")))
    for key, words in (("parts", "clips of"), ("videos", "videos of"), ("types", "test questions")):
        counts += [Count(f"{words} {name}", found[key](name), n) for name, n in official.get(key, {}).items()]
    return counts + list(_events(dataset, official.get("events", {})))


def _events(dataset: Dataset, official: Mapping[str, Mapping[str, int]]) -> Iterator[Count]:
    """Rows of dense labels, by modality and split."""
    for modality, splits in official.items():
        for split, number in splits.items():
            events = (getattr(sample, f"{modality}_events") or () for sample in dataset.split(split))
            yield Count(f"{modality} events of {split}", sum(map(len, events)), number)


def wrong_counts(dataset: Dataset, counts: list[Count]) -> list[Finding]:
    """A fault where a split has another number of rows than it should, beyond rows that were left out.

    A row that was left out stands for one that its split lacks; one of which the split is not known, for any. Where a
    whole split lacks its file, that is named already.
    """
    named = any(finding.kind in NO_TABLE for finding in dataset.findings)
    findings = []
    for kind in _COUNTED:
        ones = [one for one in counts if one.what.startswith(f"{kind} of ") and one.official is not None]
        lacking = {one.what: _lacking(one, dataset.left_out) for one in ones}
        excused = sum(lacking.values()) <= dataset.left_out.get(kind, 0)
        for one in ones:
            more = one.found > (one.official or 0)
            if more or (lacking[one.what] and not excused and not (named and not one.found)):
                findings.append(Finding("count", str(dataset.root), f"{one.found} {one.what}, official {one.official}"))
    return findings


def _lacking(one: Count, left_out: Mapping[str, int]) -> int:
    """How many rows there should be beside those that are there or were left out."""
    return max(0, (one.official or 0) - one.found - left_out.get(one.what, 0))


def fewer_made(dataset: Dataset, clips: Count) -> list[Finding]:
    """A fault where demo data have fewer clips than were made, beyond the samples that were left out."""
    left_out = sum(number for what, number in dataset.left_out.items() if what.startswith("samples"))
    named = any(finding.kind in NO_TABLE for finding in dataset.findings)
    if clips.official is None or named or clips.found >= clips.official - left_out:
        return []
    return [Finding("count", str(dataset.root), f"{clips.found} clips, {clips.official} were made")]
