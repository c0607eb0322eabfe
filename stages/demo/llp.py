"""Demo data in LLP's layout: several classes a clip, some seen, some heard, some both, each at times of its own.

Training clips have weak labels alone, the classes that occur in either modality; clips for validation and testing also
have the seconds in which each class is heard and those in which it is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avpipe.stages.demo.encode import write_mp4
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, balanced, splits, video_ids
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import Actor, Interval, Scene, cast, stretches

CLASSES = {
    "dog": "Dog",
    "violin": "Violin_fiddle",
    "motorcycle": "Motorcycle",
    "helicopter": "Helicopter",
    "bell": "Telephone_bell_ringing",
    "baby": "Baby_cry_infant_cry",
}
"""The nearest class of each kind of object; kinds without a near one are left out."""

SECONDS = 10
WIDTH, HEIGHT = 192, 144
FRAMES_PER_SECOND = 8
SAMPLE_RATE = 22_050
_STREAM = 5
"""Keeps the random numbers of the layouts apart."""
_UNDERSCORE_EVERY = 4
"""One id in so many is sure to hold "_", which also stands between id, start and end in the annotations."""

# The mixture decides how hard the data are.
_OBJECTS = (0.25, 0.45, 0.3)
"""Shares of clips with 1, 2 and 3 objects, each of another class."""
_MODES = {"both": 0.5, "heard": 0.3, "seen": 0.2}
"""How an object takes part, and how often."""
_TOGETHER = 0.4
"""Share of objects, of those both seen and heard, that are so at the same times."""
_TWICE = 0.25
"""Share of stretches that are interrupted: two events of one class."""
_WHOLE_CLIP = 0.25
"""Share of stretches that last from start to end."""
_LEAST_GAP = -0.1
"""Objects overlap by less than this, in picture heights, so that what is labelled as seen is seen."""


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function."""
    rng = np.random.default_rng([seed, _STREAM])
    ids, parts = _ids(rng, clips), splits(clips)
    kinds = [kind for split in ("train", "val", "test") for kind in balanced(rng, list(CLASSES), parts.count(split))]
    planned, names = [], []
    for index, (name, split, kind) in enumerate(zip(ids, parts, kinds, strict=True)):
        scene = _scene(np.random.default_rng([seed, _STREAM, 1 + index]), kind)
        planned.append(ClipPlan(name, split, scene))
        start = 10 * int(rng.integers(40))
        names.append(f"{name}_{start}_{start + SECONDS}")
    weak = [
        f"{name}\t{','.join(CLASSES[actor.kind] for actor in clip.scene.actors)}"
        for name, clip in zip(names, planned, strict=True)
    ]
    dense = [(name, clip.scene) for name, clip in zip(names, planned, strict=True) if clip.split != "train"]
    tables = {"AVVP_dataset_full": weak}
    for table, split in (("AVVP_train", "train"), ("AVVP_val_pd", "val"), ("AVVP_test_pd", "test")):
        tables[table] = [row for row, part in zip(weak, parts, strict=True) if part == split]
    header = "filename\tevent_labels"
    texts = {f"data/{table}.csv": "\n".join([header, *rows]) + "\n" for table, rows in tables.items()}
    header = "filename\tonset\toffset\tevent_labels"
    for modality, field in (("audio", "sounding"), ("visual", "visible")):
        rows = [row for name, scene in dense for row in _events(name, scene.actors, field)]
        texts[f"data/AVVP_eval_{modality}.csv"] = "\n".join([header, *rows]) + "\n"
    return Plan(texts, tuple(planned))


def _ids(rng: np.random.Generator, count: int) -> list[str]:
    """Different ids; some start with "-", some hold "_"."""
    names = video_ids(rng, count)
    marked = {name: f"{name[:5]}_{name[6:]}" for name in names[::_UNDERSCORE_EVERY]}
    changed = [marked.get(name, name) for name in names]
    return changed if len(set(changed)) == count else names


def _events(name: str, actors: Iterable[Actor], field: str) -> list[str]:
    """Rows of the dense labels of one clip, of the intervals in `field` of its actors."""
    return [
        f"{name}\t{start:g}\t{end:g}\t{CLASSES[actor.kind]}" for actor in actors for start, end in getattr(actor, field)
    ]


def _scene(rng: np.random.Generator, kind: str) -> Scene:
    """A scene with an object of `kind`, and of up to two other kinds; all are seen or heard, or both."""
    others = [other for other in CLASSES if other != kind]
    more = int(rng.choice(len(_OBJECTS), p=_OBJECTS))
    kinds = [kind, *(others[i] for i in rng.permutation(len(others))[:more])]
    modes = [str(mode) for mode in rng.choice(list(_MODES), len(kinds), p=list(_MODES.values()))]
    placed = _placed(rng, [kind for kind, mode in zip(kinds, modes, strict=True) if mode != "heard"])
    placed += cast(rng, [kind for kind, mode in zip(kinds, modes, strict=True) if mode == "heard"], WIDTH / HEIGHT)
    mode_of = dict(zip(kinds, modes, strict=True))
    actors = [_timed(rng, actor, mode_of[actor.kind]) for actor in placed]
    actors = [actors[i] for i in rng.permutation(len(actors))]
    grain, hiss = float(rng.uniform(0.01, 0.03)), float(rng.uniform(0.003, 0.02))
    return Scene(SECONDS, WIDTH, HEIGHT, tuple(actors), grain, hiss, int(rng.integers(2**31)))


def _placed(rng: np.random.Generator, kinds: Sequence[str]) -> list[Actor]:
    """Actors of `kinds` of which none hides another."""
    while True:
        actors = cast(rng, kinds, WIDTH / HEIGHT)
        bodies = [actor.body for actor in actors]
        gaps = [
            np.hypot(one.x - two.x, one.y - two.y) - one.radius - two.radius
            for place, one in enumerate(bodies)
            for two in bodies[:place]
        ]
        if min(gaps, default=0.0) > _LEAST_GAP:
            return actors


def _timed(rng: np.random.Generator, actor: Actor, mode: str) -> Actor:
    first, second = _times(rng), _times(rng)
    if mode == "both":
        return replace(actor, visible=first, sounding=first if rng.uniform() < _TOGETHER else second)
    return replace(actor, visible=first) if mode == "seen" else replace(actor, sounding=first)


def _times(rng: np.random.Generator) -> tuple[Interval, ...]:
    """One stretch of whole seconds, or two apart."""
    on = np.zeros(SECONDS, bool)
    length = SECONDS if rng.uniform() < _WHOLE_CLIP else int(rng.integers(2, 9))
    start = int(rng.integers(0, SECONDS - length, endpoint=True))
    on[start : start + length] = True
    if length >= 5 and rng.uniform() < _TWICE:
        gap = start + int(rng.integers(1, length - 2))
        on[gap : gap + 2] = False
    return stretches(on.tolist())


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the video of one clip."""
    folder = root / "data" / "LLP_dataset" / "video"
    folder.mkdir(parents=True, exist_ok=True)
    camera = Camera(clip.scene)
    times = np.arange(SECONDS * FRAMES_PER_SECOND) / FRAMES_PER_SECOND
    pictures = np.stack([camera.picture(float(time))[0] for time in times])
    sound = soundtrack(clip.scene, SAMPLE_RATE)
    write_mp4(folder / f"{clip.name}.mp4", pictures, FRAMES_PER_SECOND, np.stack([sound, 0.9 * sound]), SAMPLE_RATE)


LAYOUT = Layout(clips=60, image_size=160, plan=plan, write=write)
