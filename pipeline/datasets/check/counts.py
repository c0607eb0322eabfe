"""How much there is, beside what there should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avpipe.pipeline.datasets.check.leakage import part_of
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Dataset


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
    found: dict[str, Callable[[str], int]] = {
        "parts": lambda part: parts.count(part),
        "types": lambda kind: sum(1 for s in dataset.split("test") if s.question and s.question.type == kind),
        "videos": lambda split: len({sample.clip for sample in dataset.split(split)}),
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
    """A fault where a split has another number of rows than it should, beyond rows that were left out and are named.

    A split of which there is nothing at all is named by who read the annotations.
    """
    left_out = sum("left out" in finding.done for finding in dataset.findings)
    findings = []
    for one in counts:
        if one.official is None or not one.found or one.found == one.official:
            continue
        what = f"{one.found} {one.what}, official {one.official}"
        if one.what.startswith("samples of ") and not one.official - left_out <= one.found < one.official:
            findings.append(Finding("count", str(dataset.root), what))
        elif one.what.startswith(("audio events", "visual events")) and not left_out:
            findings.append(Finding("count", str(dataset.root), what, level=NOTE))
    return findings
