"""Demo data in AVE's layout: in each clip one event, the seconds in which one object is both seen and heard.

The object is often seen before or after it sounds, or heard without being seen; other objects are seen and never heard,
others heard and never seen. So neither modality alone can tell the event.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avpipe.data_manifests import load
from avpipe.stages.demo.encode import write_mp4
from avpipe.stages.demo.kinds import KINDS
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, balanced, splits, video_ids
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import Actor, Interval, Scene, cast

CLASSES = {
    "bell": "Church bell",
    "dog": "Bark",
    "helicopter": "Helicopter",
    "violin": "Violin, fiddle",
    "motorcycle": "Motorcycle",
    "train": "Train horn",
    "clock": "Clock",
    "baby": "Baby cry, infant cry",
}
"""The class of each kind of object."""

SECONDS = 10
_WIDTH, _HEIGHT = 192, 144
_FRAMES_PER_SECOND = 15
_SAMPLE_RATE = 22_050
_STREAM = 1
"""Keeps the random numbers of the layouts apart."""

# The mixture decides how hard the data are.
_WHOLE_CLIP = 0.2
"""Share of events that last from start to end."""
_EXTENSION = {"seen": 0.4, "heard": 0.4, "": 0.2}
"""What goes on beyond an end of the event, and how often."""
_MUTE = (0.2, 0.5, 0.3)
"""Shares of clips with 0, 1 and 2 objects that are seen and never heard."""
_OFF_SCREEN = (0.2, 0.6, 0.2)
"""Shares of clips with 0, 1 and 2 objects that are heard and never seen."""
_GRAIN, _HISS = (0.01, 0.04), (0.004, 0.025)
"""Smallest and largest noise in pictures and sound."""


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function."""
    rng = np.random.default_rng([seed, _STREAM])
    names, parts = video_ids(rng, clips), splits(clips)
    kinds = [kind for split in ("train", "val", "test") for kind in balanced(rng, list(CLASSES), parts.count(split))]
    planned, rows = [], []
    for index, (name, split, kind) in enumerate(zip(names, parts, kinds, strict=True)):
        scene, (start, end) = _scene(np.random.default_rng([seed, _STREAM, 1 + index]), kind)
        planned.append(ClipPlan(name, split, scene))
        rows.append((CLASSES[kind], split, f"{CLASSES[kind]}&{name}&good&{start:g}&{end:g}"))
    order = {name: number for number, name in enumerate(load("ave")["classes"])}
    rows.sort(key=lambda row: order[row[0]])  # the official files go class by class
    annotations = {"Annotations.txt": ["Category&VideoID&Quality&StartTime&EndTime", *(row[2] for row in rows)]}
    for split in ("train", "val", "test"):
        annotations[f"{split}Set.txt"] = [row[2] for row in rows if row[1] == split]
    texts = {f"AVE_Dataset/{name}": "\n".join(lines) + "\n" for name, lines in annotations.items()}
    return Plan(texts, tuple(planned))


def _scene(rng: np.random.Generator, kind: str) -> tuple[Scene, Interval]:
    """A scene whose event is of `kind`, and when the event is."""
    others = [other for other in KINDS if other != kind and other in CLASSES]
    others = [others[i] for i in rng.permutation(len(others))]
    mute, off_screen = (int(rng.choice(len(shares), p=shares)) for shares in (_MUTE, _OFF_SCREEN))
    seen = cast(rng, [kind, *others[:mute]], _WIDTH / _HEIGHT)
    event, visible, sounding = _event(rng)
    actors = [_on(seen[0], visible=visible, sounding=sounding)]
    # Decoys come and go as the object of an event does, so when something is there does not tell what it is either.
    actors += [_on(actor, visible=_event(rng)[1]) for actor in seen[1:]]
    actors = [actors[i] for i in rng.permutation(len(actors))]
    heard = cast(rng, others[mute : mute + off_screen], _WIDTH / _HEIGHT)
    actors += [_on(actor, sounding=_event(rng)[2]) for actor in heard]
    grain, hiss = float(rng.uniform(*_GRAIN)), float(rng.uniform(*_HISS))
    return Scene(SECONDS, _WIDTH, _HEIGHT, tuple(actors), grain, hiss, int(rng.integers(2**31))), event


def _on(actor: Actor, visible: Interval | None = None, sounding: Interval | None = None) -> Actor:
    return Actor(actor.kind, actor.body, actor.sound, (visible,) if visible else (), (sounding,) if sounding else ())


def _event(rng: np.random.Generator) -> tuple[Interval, Interval, Interval]:
    """When the event is, and when its object is seen and heard: both exactly in the event, beyond it at most one."""
    start, end = (0.0, float(SECONDS)) if rng.uniform() < _WHOLE_CLIP else _stretch(rng, 3, 8)
    edges = {"seen": [start, end], "heard": [start, end]}
    for side, room in enumerate((start, SECONDS - end)):
        longer = str(rng.choice(list(_EXTENSION), p=list(_EXTENSION.values())))
        if longer and room >= 1:
            edges[longer][side] += (-1, 1)[side] * float(rng.integers(1, int(room), endpoint=True))
    return (start, end), (edges["seen"][0], edges["seen"][1]), (edges["heard"][0], edges["heard"][1])


def _stretch(rng: np.random.Generator, shortest: int = 4, longest: int = SECONDS) -> Interval:
    """Some whole seconds in a row."""
    length = int(rng.integers(shortest, longest, endpoint=True))
    start = int(rng.integers(0, SECONDS - length, endpoint=True))
    return float(start), float(start + length)


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the video of one clip."""
    folder = root / "AVE_Dataset" / "AVE"
    folder.mkdir(parents=True, exist_ok=True)
    camera = Camera(clip.scene)
    times = np.arange(SECONDS * _FRAMES_PER_SECOND) / _FRAMES_PER_SECOND
    pictures = np.stack([camera.picture(float(time))[0] for time in times])
    sound = soundtrack(clip.scene, _SAMPLE_RATE)
    stereo = np.stack([sound, 0.9 * sound])
    write_mp4(folder / f"{clip.name}.mp4", pictures, _FRAMES_PER_SECOND, stereo, _SAMPLE_RATE)


LAYOUT = Layout(clips=300, image_size=160, plan=plan, write=write)
