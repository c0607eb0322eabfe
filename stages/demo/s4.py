"""Demo data in the layout of AVSBench S4: in each clip one object sounds, and most clips show silent ones as well.

Any kind may sound in one clip and be silent in the next, so the picture alone cannot tell the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avpipe.stages.demo.avsbench import SECONDS, SIDE, write_clip
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, balanced, splits, video_ids
from avpipe.stages.demo.scenes import Interval, Scene, cast

CATEGORIES = {
    "bell": "playing_glockenspiel",
    "dog": "dog_barking",
    "helicopter": "helicopter",
    "violin": "playing_violin",
    "baby": "baby_laughter",
    "motorcycle": "race_car",
}
"""The nearest category of each kind of object; kinds without a near one are left out, as decoys too."""

_STREAM = 3
"""Keeps the random numbers of the layouts apart."""

# The mixture decides how hard the data are.
_SILENT = (0.2, 0.5, 0.3)
"""Shares of clips with 0, 1 and 2 objects that are seen and never heard."""
_FALLS_SILENT = 0.15
"""Share of clips whose object stops sounding before the end; it always sounds in the first second."""


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function."""
    rng = np.random.default_rng([seed, _STREAM])
    names, parts = video_ids(rng, clips), splits(clips)
    kinds = [kind for split in ("train", "val", "test") for kind in balanced(rng, list(CATEGORIES), parts.count(split))]
    planned, rows = [], []
    for index, (name, split, kind) in enumerate(zip(names, parts, kinds, strict=True)):
        scene = one_source(np.random.default_rng([seed, _STREAM, 1 + index]), kind, list(CATEGORIES), SIDE)
        planned.append(ClipPlan(name, split, scene, group=CATEGORIES[kind]))
        rows.append(f"{name},{rng.integers(7)},{CATEGORIES[kind]},{split}")
    order = rng.permutation(clips)
    table = "\n".join(["name,start,category,split", *(rows[i] for i in order)]) + "\n"
    return Plan({"Single-source/s4_meta_data.csv": table}, tuple(planned))


def one_source(rng: np.random.Generator, kind: str, kinds: Sequence[str], side: int) -> Scene:
    """A scene of five seconds in which an object of `kind` is heard, and silent ones of other `kinds` may be seen.

    Args:
        rng: source of all choices.
        kind: what sounds.
        kinds: what silent objects are drawn from.
        side: height and width of the picture, pixels.
    """
    others = [other for other in kinds if other != kind]
    silent = [others[i] for i in rng.permutation(len(others))[: int(rng.choice(len(_SILENT), p=_SILENT))]]
    whole: Interval = (0.0, float(SECONDS))
    heard = (0.0, float(rng.integers(2, SECONDS))) if rng.uniform() < _FALLS_SILENT else whole
    source, *rest = cast(rng, [kind, *silent], 1.0)
    actors = [replace(source, visible=(whole,), sounding=(heard,)), *(replace(one, visible=(whole,)) for one in rest)]
    actors = [actors[i] for i in rng.permutation(len(actors))]
    grain, hiss = float(rng.uniform(0.01, 0.03)), float(rng.uniform(0.003, 0.02))
    return Scene(SECONDS, side, side, tuple(actors), grain, hiss, int(rng.integers(2**31)))


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the files of one clip: raw video, frames, wav, and masks: for training that of the first frame alone."""
    data, name, place = root / "Single-source" / "s4_data", clip.name, Path(clip.split, clip.group)
    numbers = range(1, SECONDS + 1)
    write_clip(
        clip.scene,
        frames=[data / "visual_frames" / place / name / f"{name}_{number}.png" for number in numbers],
        masks=[
            data / "gt_masks" / place / name / f"{name}_{number}.png"
            for number in (numbers[:1] if clip.split == "train" else numbers)
        ],
        wav=data / "audio_wav" / place / f"{name}.wav",
        video=data / "raw_videos" / place / f"{name}.mp4",
    )


LAYOUT = Layout(clips=60, image_size=SIDE, plan=plan, write=write)
