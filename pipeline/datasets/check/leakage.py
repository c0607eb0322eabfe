"""Recordings of which clips are in more than one split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset

APART = "probably a mistake: scores are of use where each recording is in one split alone"


@dataclass(frozen=True)
class Leakage:
    """What splits share; reported, as it is built into some of the datasets.

    Attributes:
        recordings: number of recordings in the dataset.
        pairs: names of the shared recordings for each two splits, such as `train/val`; no key where there are none.
        parts: how many lie between which parts of the dataset (`v1s + v2`), where it has parts.
    """

    recordings: int
    pairs: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every shared recording once, sorted."""
        return sorted({name for names in self.pairs.values() for name in names})


def leakage(dataset: Dataset) -> Leakage:
    """Finds recordings (`Clip.source`, else the clip itself) that have samples in more than one split."""
    clips = {clip.id: clip for clip in dataset.clips}
    splits: dict[str, set[str]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for sample in dataset.samples:
        clip = clips[sample.clip]
        name = clip.source or clip.id
        splits[name].add(sample.split)
        parts[name].add(part_of(dataset, clip))
    pairs = {
        f"{one}/{other}": shared
        for one, other in combinations(SPLITS, 2)
        if (shared := sorted(name for name, where in splits.items() if {one, other} <= where))
    }
    leaking = {name for shared in pairs.values() for name in shared}
    between = Counter(" + ".join(sorted(parts[name])) for name in sorted(leaking))
    several = len({part for of in parts.values() for part in of}) > 1
    return Leakage(len(splits), pairs, dict(sorted(between.items())) if several else {})


def leaks(dataset: Dataset, shared: Leakage) -> Iterator[Finding]:
    """A fault for each recording that a user's own splits share: it is built into no benchmark, so it is a slip."""
    clips: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    source = {clip.id: clip.source or clip.id for clip in dataset.clips}
    for sample in dataset.samples:
        names = clips[source[sample.clip]][sample.split]
        if sample.clip not in names[-1:]:  # questions share clips
            names.append(sample.clip)
    for name in shared.names:
        of = {split: clips[name][split] for split in SPLITS if split in clips[name]}
        where = " and ".join(f"{split} (clip {_first(names)})" for split, names in of.items())
        yield Finding("leakage", str(dataset.root / dataset.name), f"recording {name!r} is in {where}", APART)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"


def part_of(dataset: Dataset, clip: Clip) -> str:
    """The part of a semantic dataset that a clip belongs to, the folder of it (`v1s`); empty for others."""
    path = next(iter(clip.media()), None)
    if dataset.task != "semantic" or path is None or not path.is_relative_to(dataset.root):
        return ""
    return path.relative_to(dataset.root).parts[0]
