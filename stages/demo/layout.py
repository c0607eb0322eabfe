"""What the layouts of demo data have in common."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import UsageError
from avpipe.stages.demo.scenes import Scene

_ID_LETTERS = string.ascii_letters + string.digits + "-_"
_DASH_EVERY = 6
"""One id in so many starts with "-", which a careless command line takes for an option."""
_HELD_OUT = 0.2
"""Share of the clips in the validation split, and again in the test split."""


@dataclass(frozen=True)
class ClipPlan:
    """One clip to write.

    Attributes:
        name: its name on disk.
        split: `train`, `val` or `test`.
        scene: what happens in it.
        group: the folder of its kind, where the layout has such: its category (S4) or its part (AVSS); in MUSIC-AVQA
            where it is, `indoor` or `outdoor`.
    """

    name: str
    split: str
    scene: Scene
    group: str = ""


@dataclass(frozen=True)
class Plan:
    """A whole demo dataset: texts of the annotation files by path below the root, and the clips."""

    annotations: Mapping[str, str]
    clips: tuple[ClipPlan, ...]


@dataclass(frozen=True)
class Layout:
    """How one dataset's demo is planned and written.

    Attributes:
        clips: default number of clips.
        image_size: picture size that the demo's visual backbone works on, pixels.
        plan: `(seed, clips) -> Plan`, a pure function.
        write: `(root, clip)` writes the files of one clip.
    """

    clips: int
    image_size: int
    plan: Callable[[int, int], Plan]
    write: Callable[[Path, ClipPlan], None]


def splits(clips: int) -> list[str]:
    """The split of each of `clips` clips: train, then val, then test.

    Raises:
        UsageError: too few for three splits.
    """
    if clips < 3:
        raise UsageError(f"{clips} demo clips cannot be split into train, val and test: ask for 3 or more")
    held_out = max(1, round(clips * _HELD_OUT))
    return ["train"] * (clips - 2 * held_out) + ["val"] * held_out + ["test"] * held_out


def balanced(rng: np.random.Generator, kinds: Sequence[str], count: int) -> list[str]:
    """`count` kinds in random order, each as often as the others, give or take one."""
    rounds = [kinds[i] for _ in range(-(-count // len(kinds))) for i in rng.permutation(len(kinds))]
    return rounds[:count]


def video_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Different ids of eleven characters, as YouTube's are; some start with "-"."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        letters = [_ID_LETTERS[i] for i in rng.integers(len(_ID_LETTERS), size=11)]
        if len(ids) % _DASH_EVERY == 0:
            letters[0] = "-"
        ids["".join(letters)] = None
    return list(ids)
