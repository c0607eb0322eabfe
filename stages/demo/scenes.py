"""What happens in a demo clip, before any pixel or sample: a description that every layout shares.

An actor that is seen but never sounds is a mute decoy; one that sounds but is never seen is an off-screen sound. Labels
and masks follow from the intervals alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]
"""Start and end, seconds; the end does not belong to it."""

SIZES = (0.17, 0.27)
"""Smallest and largest radius of an object, in picture heights."""
_DRIFT = 0.07
"""Largest swing of an object around its anchor, in picture heights."""


@dataclass(frozen=True, slots=True)
class Body:
    """How one instance of a kind looks and moves. Lengths in picture heights, angles in radians.

    Attributes:
        radius: radius of the circle around it.
        x, y: anchor, from the left and the top.
        drift: swing around the anchor in x and y.
        drift_hertz: swings a second in x and y.
        phase: start of all its motions, in turns.
        tilt: resting angle.
        stretch: width over height.
        mirrored: whether left and right are exchanged.
        hue_shift, saturation, value: its colour around the kind's hue.
    """

    radius: float
    x: float
    y: float
    drift: tuple[float, float]
    drift_hertz: tuple[float, float]
    phase: float
    tilt: float
    stretch: float
    mirrored: bool
    hue_shift: float
    saturation: float
    value: float

    def position(self, time: float) -> tuple[float, float]:
        """Centre at `time` (seconds), in picture heights."""
        turns = [self.phase + hertz * time for hertz in self.drift_hertz]
        return (
            self.x + self.drift[0] * float(np.sin(2 * np.pi * turns[0])),
            self.y + self.drift[1] * float(np.cos(2 * np.pi * turns[1])),
        )


@dataclass(frozen=True, slots=True)
class Sound:
    """How one instance of a kind sounds: factors on pitch and pace, level (1 is usual), seed of its noise."""

    pitch: float
    pace: float
    level: float
    seed: int


@dataclass(frozen=True, slots=True)
class Actor:
    """One instance of a kind in a scene, with the intervals in which it is seen and heard."""

    kind: str
    body: Body
    sound: Sound
    visible: tuple[Interval, ...] = ()
    sounding: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip.

    Attributes:
        seconds: its length.
        width, height: picture size, pixels.
        actors: from back to front.
        grain: standard deviation of the noise in the pictures, 0 to 1.
        hiss: root mean square of the noise in the sound, 0 to 1.
        seed: seed of backdrop and noise.
    """

    seconds: float
    width: int
    height: int
    actors: tuple[Actor, ...]
    grain: float
    hiss: float
    seed: int


def covers(intervals: Iterable[Interval], time: float) -> bool:
    """Whether `time` (seconds) lies in one of the intervals."""
    return any(start <= time < end for start, end in intervals)


def stretches(on: Sequence[bool]) -> tuple[Interval, ...]:
    """Intervals of the seconds that are on."""
    edges = np.flatnonzero(np.diff([0, *map(int, on), 0]))
    return tuple((float(start), float(end)) for start, end in edges.reshape(-1, 2))


def cast(rng: np.random.Generator, kinds: Sequence[str], aspect: float) -> list[Actor]:
    """New instances of `kinds`, apart from each other as far as there is room, neither seen nor heard yet.

    Whoever is placed later finds less room, and so is smaller and nearer the edge. Bodies are therefore dealt out at
    random once all are placed: the order of `kinds` must leave no trace in the picture.

    Args:
        rng: source of all choices.
        kinds: a kind for each actor.
        aspect: picture width over height.
    """
    bodies: list[Body] = []
    for _ in kinds:
        tries = [_body(rng, aspect) for _ in range(12)]
        bodies.append(max(tries, key=lambda body: _room(body, bodies)))
    dealt = rng.permutation(len(bodies))
    return [Actor(kind, bodies[place], _sound(rng)) for kind, place in zip(kinds, dealt, strict=True)]


def _room(body: Body, others: Sequence[Body]) -> float:
    """Smallest gap to another body, in picture heights; gaps that are wide enough count the same."""
    gaps = (np.hypot(body.x - other.x, body.y - other.y) - body.radius - other.radius for other in others)
    return min([0.1, *map(float, gaps)])


def _body(rng: np.random.Generator, aspect: float) -> Body:
    radius = rng.uniform(*SIZES)
    drift = rng.uniform(0.2 * _DRIFT, _DRIFT, 2)
    margin = 0.9 * radius + drift
    return Body(
        radius=radius,
        x=rng.uniform(margin[0], aspect - margin[0]),
        y=rng.uniform(margin[1], 1 - margin[1]),
        drift=(drift[0], drift[1]),
        drift_hertz=(rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4)),
        phase=rng.uniform(),
        tilt=rng.uniform(-0.35, 0.35),
        stretch=rng.uniform(0.85, 1.2),
        mirrored=bool(rng.uniform() < 0.5),
        hue_shift=rng.uniform(-0.05, 0.05),
        saturation=rng.uniform(0.55, 0.95),
        value=rng.uniform(0.65, 1.0),
    )


def _sound(rng: np.random.Generator) -> Sound:
    return Sound(rng.uniform(0.84, 1.19), rng.uniform(0.85, 1.2), rng.uniform(0.5, 1.0), int(rng.integers(2**31)))
