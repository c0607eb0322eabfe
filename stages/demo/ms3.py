"""Demo data in the layout of AVSBench MS3: several objects, masks of those that sound in each second.

Every object on screen may sound or not, alone or with another one, so the picture alone cannot tell the mask; which of
them sounds can be told from the sound alone only as a kind, not as a place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from avpipe.stages.demo.avsbench import SECONDS, SIDE, sources, write_clip
from avpipe.stages.demo.kinds import KINDS
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, splits, video_ids
from avpipe.stages.demo.scenes import Scene, cast, stretches

_STREAM = 2
"""Keeps the random numbers of the layouts apart."""

# The mixture decides how hard the data are.
_ON_SCREEN = (0.15, 0.5, 0.35)
"""Shares of clips with 1, 2 and 3 objects on screen."""
_COMES_OR_GOES = 0.25
"""Share of objects that are on screen for a part of the clip only."""
_SOURCES = (0.12, 0.6, 0.28)
"""Shares of stretches in which 0, 1 and 2 of them sound."""
_OFF_SCREEN = 0.25
"""Share of clips with an object that is heard and never seen."""


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function."""
    rng = np.random.default_rng([seed, _STREAM])
    names = [name if i % 2 else f"{name}_{rng.integers(40)}" for i, name in enumerate(video_ids(rng, clips))]
    planned = tuple(
        ClipPlan(name, split, _scene(np.random.default_rng([seed, _STREAM, 1 + index])))
        for index, (name, split) in enumerate(zip(names, splits(clips), strict=True))
    )
    rows = [f"{planned[i].name},{planned[i].split}" for i in rng.permutation(clips)]
    return Plan({"Multi-sources/ms3_meta_data.csv": "\n".join(["video_id,split", *rows]) + "\n"}, planned)


def _scene(rng: np.random.Generator) -> Scene:
    """A scene in which at least one second has an object that is seen and heard."""
    while True:
        scene = _draw_scene(rng)
        if any(sources(scene, second) for second in range(SECONDS)):
            return scene


def _draw_scene(rng: np.random.Generator) -> Scene:
    count = 1 + int(rng.choice(len(_ON_SCREEN), p=_ON_SCREEN))
    kinds = [list(KINDS)[i] for i in rng.permutation(len(KINDS))]
    heard = _who_sounds(rng, count)
    actors = [
        replace(actor, visible=_when_seen(rng), sounding=stretches([index in now for now in heard]))
        for index, actor in enumerate(cast(rng, kinds[:count], 1.0))
    ]
    if rng.uniform() < _OFF_SCREEN:
        start, end = sorted(int(edge) for edge in rng.choice(SECONDS + 1, 2, replace=False))
        hidden = cast(rng, kinds[count : count + 1], 1.0)[0]
        actors.append(replace(hidden, sounding=((float(start), float(end)),)))
    grain, hiss = float(rng.uniform(0.01, 0.03)), float(rng.uniform(0.003, 0.02))
    return Scene(SECONDS, SIDE, SIDE, tuple(actors), grain, hiss, int(rng.integers(2**31)))


def _when_seen(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    if rng.uniform() >= _COMES_OR_GOES:
        return ((0.0, float(SECONDS)),)
    edge = float(rng.integers(1, SECONDS))
    return ((0.0, edge),) if rng.uniform() < 0.5 else ((edge, float(SECONDS)),)


def _who_sounds(rng: np.random.Generator, count: int) -> list[set[int]]:
    """Which of `count` objects sound in each second: one to three stretches with different ones."""
    cuts = np.sort(rng.choice(np.arange(1, SECONDS), int(rng.integers(0, 3)), replace=False))
    heard: list[set[int]] = []
    for length in np.diff([0, *cuts, SECONDS]):
        number = min(count, int(rng.choice(len(_SOURCES), p=_SOURCES)))
        now = {int(i) for i in rng.choice(count, number, replace=False)}
        heard += [now] * int(length)
    return heard


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the files of one clip: raw video, frames, wav and masks."""
    data, name, numbers = root / "Multi-sources" / "ms3_data", clip.name, range(1, SECONDS + 1)
    write_clip(
        clip.scene,
        frames=[data / "visual_frames" / name / f"{name}.mp4_{number}.png" for number in numbers],
        masks=[data / "gt_masks" / clip.split / name / f"{name}_{number}.png" for number in numbers],
        wav=data / "audio_wav" / clip.split / f"{name}.wav",
        video=data / "raw_videos" / f"{name}.mp4",
    )


LAYOUT = Layout(clips=90, image_size=SIDE, plan=plan, write=write)
