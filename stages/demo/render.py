"""Turns a scene into pictures, maps of which actor is where, and sound."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from avpipe.stages.demo.brush import Brush, Field
from avpipe.stages.demo.kinds import KINDS, Kind
from avpipe.stages.demo.scenes import Actor, Body, Interval, Scene, Sound, covers
from avpipe.stages.demo.sounds import Wave

_GRAINS = 8
"""Different noise pictures a clip; they are shown in turn."""
_FADE_SECONDS = 0.02
_LOUDNESS, _PEAK = 0.12, 0.7
"""Root mean square of a sound of level 1, unless that would put its peak above `_PEAK`."""


class Camera:
    """Takes pictures of a scene whose actors are of the given kinds."""

    def __init__(self, scene: Scene, kinds: Mapping[str, Kind] = KINDS, backdrop: Field | None = None) -> None:
        """Prepares what is the same in every picture; `backdrop` is float32 [3, H, W], by default soft colours."""
        self._scene, self._kinds = scene, kinds
        rng = np.random.default_rng([scene.seed, 1])
        self._backdrop = _backdrop(rng, scene.height, scene.width) if backdrop is None else backdrop
        noise = rng.standard_normal((_GRAINS, 1, scene.height, scene.width), dtype=np.float32)
        self._grain = scene.grain * noise
        self._tints = [_tint(actor, kinds[actor.kind]) for actor in scene.actors]

    def picture(self, time: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture at `time` (seconds).

        Returns:
            picture: uint8 [H, W, 3], RGB.
            owners: uint8 [H, W], 1 + index of the actor seen at each pixel, 0 for the backdrop.
        """
        scene = self._scene
        canvas = self._backdrop.copy()
        owners = np.zeros((scene.height, scene.width), np.uint8)
        for index, actor in enumerate(scene.actors):
            if covers(actor.visible, time):
                _draw(canvas, owners, actor.body, self._kinds[actor.kind], self._tints[index], index + 1, time)
        canvas += self._grain[int(time * 997) % _GRAINS]
        np.clip(canvas, 0, 1, out=canvas)
        canvas *= 255
        canvas += 0.5
        return np.ascontiguousarray(canvas.astype(np.uint8).transpose(1, 2, 0)), owners


def _draw(
    canvas: Field, owners: NDArray[np.uint8], body: Body, kind: Kind, tint: Field, owner: int, time: float
) -> None:
    """Paints one actor; `owners` gets its number where it covers more than half of a pixel."""
    height, width = owners.shape
    x, y = (height * place for place in body.position(time))
    radius = height * body.radius
    reach = radius * max(body.stretch, 1) + 2
    rows = slice(max(0, int(y - reach)), min(height, int(y + reach) + 2))
    columns = slice(max(0, int(x - reach)), min(width, int(x + reach) + 2))
    v, u = np.mgrid[rows, columns].astype(np.float32)
    u, v = (u + 0.5 - x) / radius, (v + 0.5 - y) / radius  # pixel centres, in radii from the body's centre
    swing = body.tilt + 0.15 * np.sin(2 * np.pi * (body.phase + 0.4 * time))
    cosine, sine = np.float32(np.cos(swing)), np.float32(np.sin(swing))
    u, v = cosine * u + sine * v, cosine * v - sine * u
    u = u / np.float32(-body.stretch if body.mirrored else body.stretch)
    brush = Brush(canvas[:, rows, columns], u, v, pixel=1 / radius)
    kind.draw(brush, tint, body.phase + kind.turns_per_second * time)
    owners[rows, columns][brush.coverage > 0.5] = owner


def _tint(actor: Actor, kind: Kind) -> Field:
    body = actor.body
    hue = (kind.hue + body.hue_shift) % 1
    return np.array(colorsys.hsv_to_rgb(hue, body.saturation, body.value), np.float32)[:, None, None]


def _backdrop(rng: np.random.Generator, height: int, width: int) -> Field:
    """Soft colours with a grating and some blots, float32 [3, H, W]: no object's outline, every object's hues."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    picture = rng.uniform(0.25, 0.65, (3, 1, 1)) * np.ones((height, width))
    for _ in range(4):
        spread = rng.uniform(0.15, 0.5)
        blot = np.exp(-(((x - rng.uniform(0, width / height)) ** 2 + (y - rng.uniform()) ** 2) / spread**2))
        picture += blot * rng.uniform(-0.25, 0.25, (3, 1, 1))
    waves = rng.uniform(8, 50, 2) * rng.choice([-1, 1], 2)
    picture += rng.uniform(0.01, 0.07) * np.sin(waves[0] * x + waves[1] * y)
    return np.clip(picture, 0.05, 0.9).astype(np.float32)


def soundtrack(scene: Scene, sample_rate: int, kinds: Mapping[str, Kind] = KINDS) -> Wave:
    """The sound of a scene.

    Args:
        scene: the scene.
        sample_rate: samples a second.
        kinds: the kinds of its actors.

    Returns:
        float32 [samples], peak at most 0.95.
    """
    time = np.arange(round(scene.seconds * sample_rate), dtype=np.float32) / sample_rate
    hiss = np.random.default_rng([scene.seed, 2]).standard_normal(time.shape, dtype=np.float32)
    mix = scene.hiss * hiss
    for actor in scene.actors:
        if actor.sounding:
            mix += _gate(time, actor.sounding) * _speak(kinds[actor.kind], actor.sound, time)
    return mix * min(1, 0.95 / max(float(np.abs(mix).max()), 1e-6))


def _speak(kind: Kind, sound: Sound, time: Wave) -> Wave:
    wave = kind.voice(time, sound.pitch, sound.pace, np.random.default_rng(sound.seed))
    loudness, peak = float(np.sqrt(np.mean(wave**2))), float(np.abs(wave).max())
    return wave * np.float32(sound.level * min(_LOUDNESS / loudness, _PEAK / peak))


def _gate(time: Wave, intervals: tuple[Interval, ...]) -> Wave:
    """1 inside the intervals, 0 outside, with short ramps inside: a hard cut would click."""
    gate = np.zeros_like(time)
    for start, end in intervals:
        gate = np.maximum(gate, np.clip(np.minimum(time - start, end - time) / _FADE_SECONDS, 0, 1))
    return gate
