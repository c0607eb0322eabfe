"""Demo data in the layout of AVSBench AVSS: masks of class ids where what sounds is seen.

As in the dataset, `v1s` has one sounding object a clip, `v1m` and the longer `v2` have several; unlike there, the clips
of `v1s` and `v1m` are not those of the S4 and MS3 demo.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avpipe.data_manifests import load
from avpipe.pipeline.media.sound import resample
from avpipe.stages.demo.avsbench import FRAME_POSITION, SIDE, sources
from avpipe.stages.demo.encode import write_jpeg, write_png, write_wav
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, balanced, splits, video_ids
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.s4 import one_source
from avpipe.stages.demo.scenes import Interval, Scene, cast

CLASSES = {kind: kind for kind in ("bell", "dog", "helicopter", "violin", "train", "clock", "baby", "motorcycle")}
"""The official class of each kind of object: they have the same names."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the dataset: length of its clips, picture size in pixels, rate of its sound.

    `tail_seconds` is how much longer than its pictures the sound is.
    """

    seconds: int
    width: int
    height: int
    sample_rate: int
    tail_seconds: float


PARTS = {
    "v1s": Part(5, 256, 256, 16_000, 0.02),
    "v2": Part(10, 320, 240, 48_000, 0.0),
    "v1m": Part(5, 256, 256, 16_000, 0.02),
}
"""In the order in which clips are dealt out."""

_VOICE_RATE = 16_000
"""Sounds are made at one rate and resampled: noise made at another rate would be another sound."""
_STREAM = 4
"""Keeps the random numbers of the layouts apart."""

# The mixture of v1m and v2 decides how hard they are.
_ON_SCREEN = (0.1, 0.5, 0.4)
"""Shares of clips with 1, 2 and 3 objects on screen."""
_HEARD = (0.5, 0.5)
"""Shares of clips in which 1 and 2 of them sound, where there are as many."""
_OFF_SCREEN = 0.2
"""Share of clips with an object that is heard and never seen."""


def class_names() -> list[str]:
    """The 71 classes in official order; the id of a class is its place, and background is 0."""
    return list(load("avsbench-avss")["classes"])


def palette(count: int = 71) -> NDArray[np.uint8]:
    """Colours of the classes in `labels_rgb`, uint8 [count, 3].

    Bits 0, 1, 2 of an id are the top bits of red, green and blue, the next three the bits below, and so on.
    """
    ids, colours = np.arange(count), np.zeros((count, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((ids >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function."""
    rng = np.random.default_rng([seed, _STREAM])
    names = rng.permutation(video_ids(rng, clips)).tolist()  # in their own order, ids with "-" would all be in v1s
    kinds = balanced(rng, list(CLASSES), clips)
    planned, rows = [], []
    for index, (name, split, kind) in enumerate(zip(names, splits(clips), kinds, strict=True)):
        part = list(PARTS)[index % len(PARTS)]
        own = np.random.default_rng([seed, _STREAM, 1 + index])
        scene = one_source(own, kind, list(CLASSES), PARTS[part].width) if part == "v1s" else _scene(own, kind, part)
        start = 0 if part == "v1m" else int(rng.integers(240))
        uid = f"{name}_{1000 * start}_{1000 * (start + scene.seconds)}"
        if part == "v1m":
            name = uid = f"{name}_{rng.integers(40)}"
        planned.append(ClipPlan(uid, split, scene, group=part))
        rows.append(f"{name},{uid},{start // 60},{start % 60},{_objects(scene)},{split},{part}")
    table = "\n".join(["vid,uid,s_min,s_sec,a_obj,split,label", *sorted(rows)]) + "\n"
    numbers = {name: number for number, name in enumerate(class_names(), start=1)}
    return Plan({"metadata.csv": table, "label2idx.json": json.dumps(numbers, indent=4)}, tuple(planned))


def _scene(rng: np.random.Generator, kind: str, part: str) -> Scene:
    """A scene of part `part` with up to three objects on screen, of which `kind` and maybe another one sound."""
    about = PARTS[part]
    others = [other for other in CLASSES if other != kind]
    others = [others[i] for i in rng.permutation(len(others))]
    seen = 1 + int(rng.choice(len(_ON_SCREEN), p=_ON_SCREEN))
    heard = min(seen, 1 + int(rng.choice(len(_HEARD), p=_HEARD)))
    whole: Interval = (0.0, float(about.seconds))
    aspect = about.width / about.height
    actors = [
        replace(actor, visible=(whole,), sounding=(_stretch(rng, about.seconds),) if index < heard else ())
        for index, actor in enumerate(cast(rng, [kind, *others[: seen - 1]], aspect))
    ]
    actors = [actors[i] for i in rng.permutation(len(actors))]
    if rng.uniform() < _OFF_SCREEN:
        hidden = cast(rng, others[seen - 1 : seen], aspect)[0]
        actors.append(replace(hidden, sounding=(_stretch(rng, about.seconds),)))
    grain, hiss = float(rng.uniform(0.01, 0.03)), float(rng.uniform(0.003, 0.02))
    return Scene(about.seconds, about.width, about.height, tuple(actors), grain, hiss, int(rng.integers(2**31)))


def _stretch(rng: np.random.Generator, seconds: int) -> Interval:
    """Some whole seconds in a row, at least half of the clip."""
    length = int(rng.integers(-(-seconds // 2), seconds, endpoint=True))
    start = int(rng.integers(0, seconds - length, endpoint=True))
    return float(start), float(start + length)


def _objects(scene: Scene) -> str:
    """The column `a_obj`: what sounds, in the words of the dataset."""
    heard = [actor for actor in scene.actors if actor.sounding]
    return "_".join(CLASSES[actor.kind] if actor.visible else "off-the-screen" for actor in heard)


def class_ids(scene: Scene, owners: NDArray[np.uint8], second: int, classes: Sequence[str]) -> NDArray[np.uint8]:
    """The mask of `second`: uint8 [H, W], the class id of what sounds where it is seen, else 0, background.

    Args:
        scene: the scene.
        owners: who is seen at each pixel, as from `Camera.picture`.
        second: counted from 0.
        classes: the official classes in order.
    """
    ids = np.zeros(1 + len(scene.actors), np.uint8)
    for actor in sources(scene, second):
        ids[1 + scene.actors.index(actor)] = classes.index(CLASSES[actor.kind])
    return ids[owners]


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the files of one clip: frames, masks as class ids and as colours, wav. Training in v1s has one mask."""
    part, classes, colours = PARTS[clip.group], class_names(), palette()
    folder = root / clip.group / clip.name
    for name in ("frames", "labels_semantic", "labels_rgb"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    camera = Camera(clip.scene)
    for second in range(part.seconds):
        picture, owners = camera.picture(second + FRAME_POSITION)
        write_jpeg(folder / "frames" / f"{second}.jpg", picture)
        if second == 0 or (clip.group, clip.split) != ("v1s", "train"):
            ids = class_ids(clip.scene, owners, second, classes)
            write_png(folder / "labels_semantic" / f"{second}.png", ids)
            write_png(folder / "labels_rgb" / f"{second}.png", colours[ids])
    sound = np.zeros(round((part.seconds + part.tail_seconds) * part.sample_rate), np.float32)
    made = resample(soundtrack(clip.scene, _VOICE_RATE), _VOICE_RATE, part.sample_rate)[: len(sound)]
    sound[: len(made)] = made
    write_wav(folder / "audio.wav", np.stack([sound, 0.9 * sound]), part.sample_rate)


LAYOUT = Layout(clips=60, image_size=SIDE, plan=plan, write=write)
