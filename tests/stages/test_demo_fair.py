"""Nothing but sight and sound may tell a source from a decoy: not its place, its size, or when it is there."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from avpipe.stages.demo import ave, avss, ms3, s4
from avpipe.stages.demo.scenes import Actor, Interval, Scene

PLANS = {"ave": ave.plan, "s4": s4.plan, "ms3": ms3.plan, "avss": avss.plan}


@functools.cache
def scenes_of(name: str) -> list[Scene]:
    """As many scenes as it takes to see a difference; most of the time of these tests goes into planning them."""
    return [clip.scene for clip in PLANS[name](5, 800).clips]


def is_source(actor: Actor) -> bool:
    return bool(actor.visible and actor.sounding)


def geometry(scene: Scene, actor: Actor) -> tuple[float, ...]:
    aspect = scene.width / scene.height
    body = actor.body
    return (
        body.radius,
        np.hypot(body.x - aspect / 2, body.y - 0.5),
        body.x / aspect,
        body.y,
        body.saturation,
        body.value,
    )


def timing(intervals: tuple[Interval, ...]) -> tuple[float, ...]:
    (start, end) = intervals[0]
    return end - start, start, end


def compare(values: list[tuple[float, ...]], marks: list[bool]) -> np.ndarray:
    """Difference of the means, in standard errors."""
    table, on = np.array(values), np.array(marks)
    assert min(on.sum(), (~on).sum()) > 300
    error = np.sqrt(table[on].var(axis=0) / on.sum() + table[~on].var(axis=0) / (~on).sum())
    return np.abs(table[on].mean(axis=0) - table[~on].mean(axis=0)) / error


@pytest.mark.parametrize("name", PLANS)
def test_bodies_of_sources_and_silent_objects_are_alike(name: str) -> None:
    values, marks = [], []
    for scene in scenes_of(name):
        seen = [actor for actor in scene.actors if actor.visible]
        if len({is_source(actor) for actor in seen}) == 2:  # the more objects, the less room: compare within a scene
            bodies = np.array([geometry(scene, actor) for actor in seen])
            values += [tuple(row) for row in bodies - bodies.mean(axis=0)]
            marks += [is_source(actor) for actor in seen]
    assert compare(values, marks).max() < 4


def test_decoys_of_ave_come_and_go_as_sources_do() -> None:
    actors = [actor for scene in scenes_of("ave") for actor in scene.actors]
    seen = [actor for actor in actors if actor.visible]
    assert compare([timing(actor.visible) for actor in seen], [is_source(actor) for actor in seen]).max() < 4
    heard = [actor for actor in actors if actor.sounding]
    assert compare([timing(actor.sounding) for actor in heard], [is_source(actor) for actor in heard]).max() < 4


@pytest.mark.parametrize("name", PLANS)
def test_place_in_the_drawing_order_does_not_tell(name: str) -> None:
    values, marks = [], []
    for scene in scenes_of(name):
        seen = [actor for actor in scene.actors if actor.visible]
        values += [((place + 0.5) / len(seen),) for place in range(len(seen))]
        marks += [is_source(actor) for actor in seen]
    assert compare(values, marks).max() < 4
