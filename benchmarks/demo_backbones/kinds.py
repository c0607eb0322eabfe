"""Random kinds of objects for pretraining the demo's backbones: a look and a voice each, drawn from a seed.

None of them is a kind of the demo (`avpipe.stages.demo.kinds`): looks are random programs of an outline, a texture and
a few small parts, voices are random programs of a source, an envelope and a modulation. What the backbones learn here
must carry over to objects and sounds that they have never met.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avpipe.stages.demo.brush import Brush, Field
from avpipe.stages.demo.kinds import Kind
from avpipe.stages.demo.looks import Draw
from avpipe.stages.demo.sounds import Voice, Wave

DARK = np.array([0.08, 0.08, 0.1], np.float32)[:, None, None]
PALE = np.array([0.95, 0.95, 0.9], np.float32)[:, None, None]


def random_kinds(seed: int, count: int) -> dict[str, Kind]:
    """`count` kinds by name; hues are spread over the circle, so that colour alone does not tell them."""
    kinds = {}
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        hue = float((index * 0.618 + rng.uniform(-0.05, 0.05)) % 1)
        kinds[f"kind{index:02d}"] = Kind(random_look(rng), hue, float(rng.uniform(0.4, 1.8)), random_voice(rng))
    return kinds


# Looks


def random_look(rng: np.random.Generator) -> Draw:
    """A random program: parts behind, an outline with a texture, parts in front; some parts move."""
    outline, texture = _outline(rng), _texture(rng)
    behind = [_part(rng, reach=0.85) for _ in range(int(rng.integers(0, 3)))]
    front = [_part(rng, reach=0.5) for _ in range(int(rng.integers(0, 4)))]

    def draw(brush: Brush, tint: Field, turns: float) -> None:
        for part in behind:
            part(brush, tint, turns)
        brush.paint(outline(brush), texture(brush, tint))
        for part in front:
            part(brush, tint, turns)

    return draw


def _outline(rng: np.random.Generator) -> Callable[[Brush], Field]:
    kind = int(rng.integers(9))
    a, b, n = float(rng.uniform(0.45, 0.9)), float(rng.uniform(0.45, 0.9)), int(rng.integers(3, 8))
    turn, depth = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.15, 0.4))

    def polygon(brush: Brush) -> Field:
        angle, radius = np.arctan2(brush.v, brush.u) + turn, np.hypot(brush.u, brush.v)
        sector = np.mod(angle, 2 * np.pi / n) - np.pi / n
        return np.asarray(0.9 * np.cos(np.pi / n) - radius * np.cos(sector))

    def star(brush: Brush) -> Field:
        angle = np.arctan2(brush.v, brush.u) + turn
        return np.asarray(0.65 * (1 + depth * np.cos(n * angle)) - np.hypot(brush.u, brush.v))

    forms: tuple[Callable[[Brush], Field], ...] = (
        lambda brush: brush.disc(0, 0, 0.5 + 0.45 * a),
        lambda brush: brush.ellipse(0, 0, a, b),
        lambda brush: brush.box(0, 0, a, b),
        lambda brush: brush.ring(0, 0, 0.65, 0.25 + depth),
        lambda brush: np.maximum(brush.box(0, 0, 0.9, depth), brush.box(0, 0, depth, 0.9)),
        lambda brush: np.minimum(brush.disc(0, 0, 0.9), -brush.disc(0.45, -0.3, 0.55)),
        lambda brush: np.maximum(
            np.maximum(brush.disc(-0.5, 0.1, depth + 0.1), brush.disc(0.5, 0.1, depth + 0.1)),
            brush.line(-0.5, 0.1, 0.5, 0.1, 0.3),
        ),
        polygon,
        star,
    )
    return forms[kind]


def _texture(rng: np.random.Generator) -> Callable[[Brush, Field], Field]:
    kind, depth = int(rng.integers(6)), float(rng.uniform(0.3, 0.6))
    pitch, angle, rays = float(rng.uniform(8, 26)), float(rng.uniform(0, np.pi)), int(rng.integers(3, 9))
    along, across = float(np.cos(angle)), float(np.sin(angle))

    def shade(brush: Brush) -> Field:
        if kind == 0:
            return np.zeros_like(brush.u)
        if kind == 1:
            return np.asarray(np.sin(pitch * (along * brush.u + across * brush.v)))
        if kind == 2:
            return np.asarray(np.sign(np.sin(0.6 * pitch * brush.u) * np.sin(0.6 * pitch * brush.v)))
        if kind == 3:
            return np.asarray(np.sin(pitch * np.hypot(brush.u, brush.v)))
        if kind == 4:
            return np.asarray(np.sign(np.sin(rays * np.arctan2(brush.v, brush.u))))
        return np.asarray(np.clip(1.5 * (along * brush.u + across * brush.v), -1, 1))

    return lambda brush, tint: tint * (1 - depth / 2 + depth / 2 * shade(brush)).astype(np.float32)


def _part(rng: np.random.Generator, reach: float) -> Callable[[Brush, Field, float], None]:
    kind, shade = int(rng.integers(4)), int(rng.integers(4))
    x, y = (float(place) for place in rng.uniform(-reach, reach, 2))
    size, other = float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.1, 0.3))
    moves, swing = bool(rng.uniform() < 0.5), float(rng.uniform(0.1, 0.3))
    both_sides = bool(rng.uniform() < 0.4)

    def paint(brush: Brush, tint: Field, turns: float) -> None:
        shift = swing * float(np.sin(2 * np.pi * turns)) if moves else 0.0
        colour = (DARK, PALE, tint * 0.5, 1 - tint)[shade]
        for side in (-1, 1) if both_sides else (1,):
            place = side * x
            if kind == 0:
                brush.paint(brush.disc(place, y + shift, size), colour)
            elif kind == 1:
                brush.paint(brush.ellipse(place + shift, y, size, other), colour)
            elif kind == 2:
                brush.paint(brush.box(place, y, size, other + abs(shift) / 2), colour)
            else:
                brush.paint(brush.line(0.3 * place, y, place + shift, -y, 0.12), colour)

    return paint


# Voices


def random_voice(rng: np.random.Generator) -> Voice:
    """A random program: a source (harmonics, free partials, a band of noise, a chord), shaped and modulated."""
    source, envelope = _source(rng), _envelope(rng)
    return lambda time, pitch, pace, noise: (source(time, pitch, pace, noise) * envelope(time, pace)).astype(np.float32)


def _source(rng: np.random.Generator) -> Voice:
    kind = int(rng.integers(5))
    base = float(np.exp(rng.uniform(np.log(60), np.log(1600))))
    slope, count = float(rng.uniform(0.3, 1.5)), int(rng.integers(2, 10))
    ratios = np.sort(np.append(1.0, rng.uniform(1.1, 5.0, 4)))
    chord = 1 + np.sort(np.append(0.0, rng.uniform(0.1, 1.0, 2)))
    glide, rate = float(rng.choice([0.0, 0.02, 0.25, 0.6])), float(rng.uniform(0.6, 6.0))
    step = float(rng.choice([1.0, 1.0, 1.125, 1.333, 0.75]))
    width = int(np.exp(rng.uniform(np.log(2), np.log(40))))
    rough = float(rng.choice([0.0, 0.0, 0.3]))

    def tone(time: Wave, pitch: float, pace: float, noise: np.random.Generator) -> Wave:
        beat = np.mod(time * rate * pace, 2)
        frequency = base * pitch * (1 + glide * np.sin(np.pi * beat)) * np.where(beat < 1, 1.0, step)
        turns = np.cumsum(frequency, dtype=np.float64) * float(time[1] - time[0])
        multiples = {2: ratios, 3: chord}.get(kind, np.arange(1, count + 1, dtype=np.float64))
        wave = np.zeros(len(time))
        for number, multiple in enumerate(multiples):
            if base * pitch * multiple < 7500:
                wave += (number + 1) ** -slope * np.sin(2 * np.pi * multiple * turns)
        wave = np.tanh(2 * wave) if kind == 1 else wave
        return np.asarray(wave + rough * noise.standard_normal(len(time)), np.float32)

    def hiss(time: Wave, pitch: float, pace: float, noise: np.random.Generator) -> Wave:
        raw = noise.standard_normal(len(time) + width)
        total = np.cumsum(raw)
        low = (total[width:] - total[:-width]) / width
        if base < 400:
            return np.asarray(low, np.float32)
        return np.asarray(low * np.sin(2 * np.pi * 2 * base * pitch * time), np.float32)  # moved up to a band

    return hiss if kind == 4 else tone


def _envelope(rng: np.random.Generator) -> Callable[[Wave, float], Wave]:
    kind = int(rng.integers(4))
    rate, decay = float(np.exp(rng.uniform(np.log(1.3), np.log(14)))), float(rng.uniform(2, 8))
    duty, depth = float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.2, 0.9))

    def shape(time: Wave, pace: float) -> Wave:
        cycle = np.mod(time * rate * pace, 1)
        if kind == 0:
            return np.ones_like(time)
        if kind == 1:
            return np.asarray(np.exp(-decay * cycle) * np.minimum(cycle * 60, 1))
        if kind == 2:
            return np.asarray(np.clip(np.minimum(cycle, duty - cycle) * 20, 0, 1))
        return np.asarray(1 - depth * 0.5 * (1 + np.sin(2 * np.pi * cycle)))

    return shape
