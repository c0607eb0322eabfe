"""Demo data in MUSIC-AVQA's layout: a minute of music a video, and questions whose answers follow from its scene.

Up to three instruments stand side by side; some play all the time, some for a while, some never. An instrument or a
voice may be heard from off screen. As in the dataset, questions and not videos are dealt to validation and testing, so
the two share videos; those for training are kept apart, unlike there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avpipe.stages.demo.brush import Field
from avpipe.stages.demo.encode import write_mp4
from avpipe.stages.demo.instruments import CAST, INSTRUMENTS, VOICE
from avpipe.stages.demo.layout import ClipPlan, Layout, Plan, splits
from avpipe.stages.demo.players import PLACES, Facts
from avpipe.stages.demo.questions import TEMPLATES, Question, ask
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import Actor, Interval, Scene, cast

SECONDS = 60
WIDTH, HEIGHT = 128, 96
FRAMES_PER_SECOND = 2
SAMPLE_RATE = 16_000
FOLDER = "json_update"
_STREAM = 6
"""Keeps the random numbers of the layouts apart."""
_MOST_ID = 9300
"""Ids are below this, as those of the dataset, unless there are more videos."""
_OTHER = {"val": "test", "test": "val"}
"""Where half of the questions on every second video that is held out go."""

# The mixture decides how hard the data are.
_ON_SCREEN = (0.2, 0.4, 0.4)
"""Shares of videos with 1, 2 and 3 instruments on screen."""
_ALIKE = 0.3
"""Share of videos with several instruments in which two are of one kind."""
_PLAYS = {"always": 0.4, "a while": 0.4, "never": 0.2}
"""When an instrument on screen plays, and how often."""
_OFF_SCREEN, _VOICE = 0.25, 0.25
"""Shares of videos with an instrument, and with a voice, that is heard and never seen."""
_LEVELS = (1.0, 0.7, 0.49, 0.34)
"""Levels of the instruments of a video, dealt out at random: each clearly above the next."""
_RADII = (0.16, 0.2)
"""Smallest and largest radius of an instrument, in picture heights: three have room side by side."""


def plan(seed: int, clips: int) -> Plan:
    """Plans the demo; a pure function. Every split has questions of all types."""
    rng = np.random.default_rng([seed, _STREAM])
    numbers, parts = rng.choice(max(_MOST_ID, 2 * clips), clips, replace=False), splits(clips)
    planned = []
    rows: dict[str, list[tuple[str, Question]]] = {split: [] for split in ("train", "val", "test")}
    for index, (number, split) in enumerate(zip(numbers, parts, strict=True)):
        place = index - parts.index(split)  # of the video in its split
        clip, questions = _video(
            np.random.default_rng([seed, _STREAM, 1 + index]), f"{number:08d}", split, every_type=place == 0
        )
        planned.append(clip)
        for which, question in enumerate(questions):
            shared = split != "train" and place % 2 and (which + index) % 2
            rows[_OTHER[split] if shared else split].append((clip.name, question))
    order = iter(rng.permutation(sum(map(len, rows.values()))).tolist())
    texts = {f"{FOLDER}/avqa-{split}.json": _json([(next(order), *row) for row in of]) for split, of in rows.items()}
    return Plan(texts, tuple(planned))


def _video(rng: np.random.Generator, name: str, split: str, *, every_type: bool) -> tuple[ClipPlan, list[Question]]:
    """A video and its questions: one of every type if `every_type`, else of those that its scene allows."""
    while True:
        scene, where = _scene(rng), str(rng.choice(["indoor", "outdoor"]))
        questions = ask(Facts(scene, where), rng)
        if len(questions) == len(TEMPLATES) or not every_type:
            return ClipPlan(name, split, scene, group=where), questions


def _json(rows: Sequence[tuple[int, str, Question]]) -> str:
    """The text of a file of questions, by number."""
    entries = [
        {
            "video_id": video,
            "question_id": number,
            "type": json.dumps(question.type),
            "question_content": question.template,
            "templ_values": json.dumps(question.values),
            "question_deleted": 0,
            "anser": question.answer,
        }
        for number, video, question in sorted(rows, key=lambda row: row[0])
    ]
    return json.dumps(entries, indent=2) + "\n"


def _scene(rng: np.random.Generator) -> Scene:
    """A scene in which at least one instrument is heard."""
    count = 1 + int(rng.choice(len(_ON_SCREEN), p=_ON_SCREEN))
    kinds = [list(INSTRUMENTS)[i] for i in rng.permutation(len(INSTRUMENTS))]
    on_screen = kinds[:count]
    if count > 1 and rng.uniform() < _ALIKE:
        on_screen[1] = on_screen[0]
    actors = _on_screen(rng, on_screen)
    if rng.uniform() < _OFF_SCREEN or not any(actor.sounding for actor in actors):
        hidden = cast(rng, kinds[count : count + 1], WIDTH / HEIGHT)[0]
        actors.append(replace(hidden, sounding=(_stretch(rng),)))
    levels = rng.permutation(len(_LEVELS))
    actors = [
        replace(actor, sound=replace(actor.sound, level=_LEVELS[level]))
        for actor, level in zip(actors, levels, strict=False)
    ]
    if rng.uniform() < _VOICE:
        actors.append(replace(cast(rng, [VOICE], WIDTH / HEIGHT)[0], sounding=(_stretch(rng),)))
    grain, hiss = float(rng.uniform(0.005, 0.02)), float(rng.uniform(0.002, 0.008))
    return Scene(SECONDS, WIDTH, HEIGHT, tuple(actors), grain, hiss, int(rng.integers(2**31)))


def _on_screen(rng: np.random.Generator, kinds: Sequence[str]) -> list[Actor]:
    """Instruments side by side in random order, seen throughout."""
    places = {1: PLACES[1:2], 2: PLACES[::2], 3: PLACES}[len(kinds)]
    dealt = rng.permutation(len(places))
    return [_on_stage(rng, kind, places[place]) for kind, place in zip(kinds, dealt, strict=True)]


def _on_stage(rng: np.random.Generator, kind: str, place: str) -> Actor:
    actor, aspect = cast(rng, [kind], WIDTH / HEIGHT)[0], WIDTH / HEIGHT
    body = replace(
        actor.body,
        radius=rng.uniform(*_RADII),
        x=aspect * (PLACES.index(place) + 0.5) / len(PLACES),
        y=rng.uniform(0.4, 0.65),
        drift=(0.2 * actor.body.drift[0], actor.body.drift[1]),
    )
    plays = str(rng.choice(list(_PLAYS), p=list(_PLAYS.values())))
    sounding = {"always": ((0.0, float(SECONDS)),), "a while": (_stretch(rng),), "never": ()}[plays]
    return replace(actor, body=body, visible=((0.0, float(SECONDS)),), sounding=sounding)


def _stretch(rng: np.random.Generator) -> Interval:
    """A part of the video, whole seconds; a third of them begin with it, none lasts to its end."""
    start = int(rng.integers(3, 35)) if rng.uniform() < 2 / 3 else 0
    return float(start), float(start + rng.integers(12, SECONDS - max(start, 4)))


def backdrop(where: str, rng: np.random.Generator) -> Field:
    """Wall and floor, or sky and grass, float32 [3, H, W]; `where` is `indoor` or `outdoor`."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) / HEIGHT
    horizon = rng.uniform(0.6, 0.75)
    above, below = _COLOURS[where]
    picture = np.where(y < horizon, np.array(above)[:, None, None], np.array(below)[:, None, None])
    picture = picture * rng.uniform(0.85, 1.1) + rng.uniform(-0.05, 0.05, (3, 1, 1))
    if where == "indoor":
        panels = np.where(y < horizon, np.sin(rng.uniform(15, 30) * x), np.sin(rng.uniform(60, 90) * (y - horizon)))
        picture = picture + 0.05 * np.sign(panels)
    else:
        for _ in range(3):  # clouds
            cloud = np.hypot((x - rng.uniform(0, WIDTH / HEIGHT)) / 2, y - rng.uniform(0.05, 0.3)) / 0.1
            picture = picture + 0.25 * np.exp(-(cloud**2))
        picture = picture + np.where(y < horizon, 0, 0.06) * np.sin(45 * x + 9 * np.sin(40 * y))
    painted: Field = np.clip(picture, 0.05, 0.9).astype(np.float32)
    return painted


_COLOURS = {
    "indoor": ((0.55, 0.45, 0.35), (0.35, 0.22, 0.14)),
    "outdoor": ((0.45, 0.62, 0.82), (0.3, 0.5, 0.2)),
}
"""Red, green and blue above and below the horizon, 0 to 1."""


def write(root: Path, clip: ClipPlan) -> None:
    """Writes the video of one clip."""
    folder = root / "video"
    folder.mkdir(parents=True, exist_ok=True)
    behind = backdrop(clip.group, np.random.default_rng([clip.scene.seed, 3]))
    camera = Camera(clip.scene, CAST, behind)
    times = np.arange(clip.scene.seconds * FRAMES_PER_SECOND) / FRAMES_PER_SECOND
    pictures = np.stack([camera.picture(float(time))[0] for time in times])
    sound = soundtrack(clip.scene, SAMPLE_RATE, CAST)[None]
    write_mp4(folder / f"{clip.name}.mp4", pictures, FRAMES_PER_SECOND, sound, SAMPLE_RATE)


LAYOUT = Layout(clips=24, image_size=160, plan=plan, write=write)
