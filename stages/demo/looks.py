"""How each kind of object looks: one function a kind, which paints it inside the unit circle.

Kinds differ in outline, colour, texture and inner motion. Inner motion goes on whether the object sounds or not: a mute
decoy must not be told from a source by vision alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avpipe.stages.demo.brush import Brush, Field

Draw = Callable[[Brush, Field, float], None]
"""`(brush, tint [3, 1, 1], turns)`: `turns` counts cycles of the inner motion, with a fraction."""

_DARK = np.array([0.08, 0.08, 0.1], np.float32)[:, None, None]
_PALE = np.array([0.95, 0.95, 0.9], np.float32)[:, None, None]


def _wave(turns: float) -> float:
    return float(np.sin(2 * np.pi * turns))


def _striped(tint: Field, phase: Field, depth: float = 0.35) -> Field:
    """Colour [3, H, W] that goes darker and lighter with `phase` (radians)."""
    return tint * (1 - depth / 2 + depth / 2 * np.sin(phase))


def bell(brush: Brush, tint: Field, turns: float) -> None:
    """A flared dome with bands and a swinging clapper."""
    brush.paint(brush.disc(0.3 * _wave(turns), 0.8, 0.17), _DARK)
    width = 0.3 + 0.4 * np.clip((brush.v + 0.8) / 1.5, 0, 1) ** 2
    dome = np.minimum(width - np.abs(brush.u), np.minimum(brush.v + 0.85, 0.65 - brush.v))
    brush.paint(dome, _striped(tint, 16 * brush.v))
    brush.paint(brush.box(0, 0.62, 0.82, 0.11), tint * 0.6)


def dog(brush: Brush, tint: Field, turns: float) -> None:
    """A spotted head with two hanging ears and a muzzle that opens."""
    for side in (-1, 1):
        brush.paint(brush.ellipse(0.66 * side, -0.1, 0.26, 0.62), tint * 0.5)
    spots = np.sin(9 * brush.u + 1) * np.sin(9 * brush.v) > 0.35
    brush.paint(brush.ellipse(0, 0, 0.62, 0.85), np.where(spots, tint * 0.55, tint))
    brush.paint(brush.ellipse(0, 0.45, 0.34, 0.22 + 0.12 * abs(_wave(turns))), _DARK)
    for side in (-1, 1):
        brush.paint(brush.disc(0.25 * side, -0.25, 0.1), _PALE)


def helicopter(brush: Brush, tint: Field, turns: float) -> None:
    """An egg with a tail and a turning rotor."""
    brush.paint(brush.line(0.1, 0.2, 0.92, 0.0, 0.14), tint * 0.7)
    brush.paint(brush.line(0.92, -0.25, 0.92, 0.25, 0.1), tint * 0.7)
    brush.paint(brush.ellipse(-0.25, 0.25, 0.6, 0.45), tint)
    brush.paint(brush.ellipse(-0.5, 0.2, 0.24, 0.24), _PALE)
    reach = 0.95 * _wave(turns)
    brush.paint(brush.line(-0.2 - reach, -0.35, -0.2 + reach + 0.02, -0.35, 0.12), _DARK)
    brush.paint(brush.line(-0.25, -0.35, -0.25, -0.1, 0.1), _DARK)


def violin(brush: Brush, tint: Field, turns: float) -> None:
    """Two joined discs with a long neck, grain along it, and a moving bow."""
    brush.paint(brush.line(0, -0.95, 0, 0, 0.16), _DARK)
    waist = np.maximum(np.maximum(brush.disc(0, 0.5, 0.45), brush.disc(0, -0.1, 0.36)), brush.box(0, 0.2, 0.26, 0.3))
    brush.paint(waist, _striped(tint, 30 * brush.u))
    shift = 0.3 * _wave(turns)
    brush.paint(brush.line(-0.75 + shift, 0.35, 0.55 + shift, -0.05, 0.09), _PALE)


def train(brush: Brush, tint: Field, turns: float) -> None:
    """A long box with bright windows, wheels and a lamp that blinks."""
    for x in (-0.6, 0.0, 0.6):
        brush.paint(brush.disc(x, 0.5, 0.2), _DARK)
    brush.paint(brush.box(0, 0.05, 0.97, 0.45), tint)
    windows = np.minimum(np.sin(11 * brush.u + 0.8) / 11, 0.15 - np.abs(brush.v + 0.12))
    brush.paint(np.minimum(windows, 0.85 - np.abs(brush.u)), _PALE)
    brush.paint(brush.disc(0.82, 0.3, 0.1), _PALE if _wave(turns) > 0 else _DARK)


def clock(brush: Brush, tint: Field, turns: float) -> None:
    """A pale face with a coloured ring, twelve marks and two hands."""
    brush.paint(brush.disc(0, 0, 0.92), tint)
    brush.paint(brush.disc(0, 0, 0.7), _PALE)
    around = np.arctan2(brush.v, brush.u)
    marks = np.minimum(brush.ring(0, 0, 0.6, 0.14), np.cos(12 * around) / 10 - 0.06)
    brush.paint(marks, _DARK)
    for speed, length in ((1.0, 0.55), (0.15, 0.38)):
        angle = 2 * np.pi * turns * speed
        brush.paint(brush.line(0, 0, length * np.sin(angle), -length * np.cos(angle), 0.12), _DARK)


def baby(brush: Brush, tint: Field, turns: float) -> None:
    """A smooth round face with two eyes, a curl and a mouth that opens."""
    brush.paint(brush.disc(0, 0.08, 0.86), tint)
    brush.paint(brush.ring(0.05, -0.85, 0.13, 0.08), _DARK)
    for side in (-1, 1):
        brush.paint(brush.disc(0.32 * side, -0.12, 0.12), _DARK)
    brush.paint(brush.ellipse(0, 0.45, 0.3, 0.1 + 0.18 * abs(_wave(turns))), tint * 0.35)


def motorcycle(brush: Brush, tint: Field, turns: float) -> None:
    """Two spoked wheels joined by a frame."""
    angle = 2 * np.pi * turns
    for x in (-0.56, 0.56):
        brush.paint(brush.ring(x, 0.4, 0.34, 0.15), _DARK)
        dx, dy = 0.3 * np.cos(angle), 0.3 * np.sin(angle)
        brush.paint(brush.line(x - dx, 0.4 - dy, x + dx, 0.4 + dy, 0.08), _PALE)
    for x0, y0, x1, y1 in ((-0.56, 0.4, -0.1, -0.15), (-0.1, -0.15, 0.4, -0.15), (0.4, -0.15, 0.56, 0.4)):
        brush.paint(brush.line(x0, y0, x1, y1, 0.24), tint)
    brush.paint(brush.ellipse(0.1, -0.25, 0.42, 0.2), tint)
    brush.paint(brush.line(0.4, -0.15, 0.6, -0.6, 0.1), _DARK)
