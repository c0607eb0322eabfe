"""Musical instruments for the demo of MUSIC-AVQA, each with a look and a sound, and a voice that is heard alone.

They are no part of `kinds.KINDS`, from which other layouts draw. Names are those that the dataset's answers have.
"""

from __future__ import annotations

import numpy as np

from avpipe.stages.demo import looks
from avpipe.stages.demo.brush import Brush, Field
from avpipe.stages.demo.kinds import KINDS, Kind
from avpipe.stages.demo.sounds import Wave

_DARK = np.array([0.08, 0.08, 0.1], np.float32)[:, None, None]
_PALE = np.array([0.95, 0.95, 0.9], np.float32)[:, None, None]

NOTES_PER_SECOND = {
    "violin": 1.6,
    "piano": 2.5,
    "drum": 5.0,
    "flute": 1.1,
    "trumpet": 2.0,
    "xylophone": 4.0,
    "accordion": 0.8,
}
"""Notes a second of each instrument at pace 1; the demo calls more of them more rhythmic."""


def _look_of_piano(brush: Brush, tint: Field, turns: float) -> None:
    """A box with a row of keys of which one is down, on two legs."""
    for x in (-0.6, 0.6):
        brush.paint(brush.box(x, 0.6, 0.09, 0.3), _DARK)
    brush.paint(brush.box(0, -0.05, 0.95, 0.5), tint)
    keys = brush.box(0, 0.2, 0.85, 0.18)
    brush.paint(keys, np.where(np.sin(22 * brush.u) > 0.6, _DARK, _PALE))
    down = np.floor(7 * (turns % 1)) / 3.5 - 0.85
    brush.paint(brush.box(down, 0.2, 0.08, 0.18), tint * 0.5)


def _look_of_drum(brush: Brush, tint: Field, turns: float) -> None:
    """A barrel with a pale head, lacing, and two sticks that rise in turn."""
    zigzag = np.abs(np.mod(2.5 * brush.u, 1) - 0.5) * 1.2 + 0.05
    brush.paint(brush.box(0, 0.3, 0.8, 0.5), np.where(np.abs(brush.v - zigzag) < 0.06, _PALE, tint))
    brush.paint(brush.ellipse(0, -0.15, 0.8, 0.28), _PALE)
    for side in (-1, 1):
        lift = 0.35 * max(0.0, side * float(np.sin(2 * np.pi * turns)))
        brush.paint(brush.line(0.75 * side, -0.8, 0.2 * side, -0.2 - lift, 0.1), _DARK)


def _look_of_flute(brush: Brush, tint: Field, turns: float) -> None:
    """A long tube with a row of holes, one of them covered."""
    brush.paint(brush.line(-0.85, 0.3, 0.85, -0.3, 0.26), tint)
    for number in range(5):
        along = -0.55 + 0.3 * number
        covered = number == int(5 * (turns % 1))
        brush.paint(brush.disc(along, -0.353 * along, 0.09), _PALE if covered else _DARK)


def _look_of_trumpet(brush: Brush, tint: Field, turns: float) -> None:
    """A tube that flares into a wide bell, with three valves of which one is pressed."""
    brush.paint(brush.line(-0.9, 0.0, 0.3, 0.0, 0.14), tint * 0.7)
    flare = 0.12 + 0.6 * np.clip(brush.u - 0.05, 0, 1) ** 2
    brush.paint(np.minimum(flare - np.abs(brush.v), np.minimum(brush.u, 0.92 - brush.u)), tint)
    brush.paint(brush.ring(-0.15, 0.25, 0.22, 0.11), tint)
    for number in range(3):
        pressed = 0.12 if number == int(3 * (turns % 1)) else 0.0
        brush.paint(brush.box(-0.35 + 0.2 * number, -0.25 + pressed, 0.06, 0.2), _DARK)


def _look_of_xylophone(brush: Brush, tint: Field, turns: float) -> None:
    """Bars side by side, each shorter than the last, and a mallet that wanders over them."""
    height = 0.75 - 0.4 * (brush.u + 0.9) / 1.8
    bars = np.minimum(height - np.abs(brush.v), 0.9 - np.abs(brush.u))
    brush.paint(np.minimum(bars, 0.05 + 0.06 * np.sin(20 * brush.u)), tint * (1.1 - 0.4 * np.abs(brush.u)))
    place = 0.6 * float(np.sin(2 * np.pi * turns))
    brush.paint(brush.line(place + 0.2, 0.75, place, 0.1, 0.07), _DARK)
    brush.paint(brush.disc(place, 0.05, 0.13), _PALE)


def _look_of_accordion(brush: Brush, tint: Field, turns: float) -> None:
    """Two boxes, with keys on one, and folds between them that open and close."""
    half = 0.35 + 0.2 * float(np.sin(2 * np.pi * turns))
    folds = 0.75 + 0.25 * np.sin(brush.u * 20 / (half + 0.2))
    brush.paint(brush.box(0, 0, half + 0.1, 0.55), np.where(folds > 0.75, _DARK, _PALE))
    for side in (-1, 1):
        brush.paint(brush.box(side * (half + 0.2), 0, 0.2, 0.7), tint)
    brush.paint(brush.box(-half - 0.25, 0, 0.08, 0.6), np.where(np.sin(18 * brush.v) > 0, _PALE, _DARK))


def _notes(time: Wave, rate: float, semitones: tuple[int, ...]) -> tuple[Wave, Wave]:
    """Seconds since the start of the note that is on, and its pitch as a factor; notes follow each other in turn."""
    number = np.floor(time * rate).astype(int)
    since = time - number.astype(np.float32) / np.float32(rate)
    ratios = np.array([2 ** (step / 12) for step in semitones], np.float32)
    return np.maximum(since, 0).astype(np.float32), ratios[number % len(ratios)]


def _harmonics(phase: Wave, strengths: tuple[float, ...]) -> Wave:
    """Harmonics of a phase in turns; the first strength belongs to the fundamental."""
    angle = np.float32(2 * np.pi) * np.mod(phase, 1)
    return np.asarray(sum(np.float32(s) * np.sin((k + 1) * angle) for k, s in enumerate(strengths)))


def _piano(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Struck notes that die away."""
    since, ratio = _notes(time, NOTES_PER_SECOND["piano"] * pace, (0, 4, 7, 12, 7, 4))
    wave: Wave = np.minimum(since / 0.005, 1) * np.exp(-4 * since)
    return wave * _harmonics(262 * pitch * ratio * since, (1, 0.5, 0.35, 0.15, 0.1))


def _drum(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Thumps that fall in pitch, with a rattle."""
    since, _ = _notes(time, NOTES_PER_SECOND["drum"] * pace, (0,))
    thump = np.sin(2 * np.pi * pitch * (90 * since + 6 * (1 - np.exp(-20 * since))))
    rattle = 0.15 * rng.standard_normal(time.shape, dtype=np.float32) * np.exp(-25 * since)
    wave: Wave = np.exp(-7 * since) * thump + rattle
    return wave


def _flute(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Long notes, nearly without harmonics, with breath."""
    since, ratio = _notes(time, NOTES_PER_SECOND["flute"] * pace, (0, 2, 5))
    tone = _harmonics(880 * pitch * ratio * since, (1, 0.12))
    swell = np.minimum(since / 0.08, 1) * (1 + 0.2 * np.sin(2 * np.pi * 5 * since))
    wave: Wave = swell * (tone + 0.08 * rng.standard_normal(time.shape, dtype=np.float32))
    return wave


def _trumpet(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Bright tongued notes."""
    since, ratio = _notes(time, NOTES_PER_SECOND["trumpet"] * pace, (0, 0, 7, 4))
    length = 1 / (NOTES_PER_SECOND["trumpet"] * pace)
    shape = np.minimum(since / 0.03, 1) * np.clip((0.9 * length - since) / 0.03, 0, 1)
    wave: Wave = shape * _harmonics(370 * pitch * ratio * since, (0.7, 1, 0.9, 0.8, 0.6, 0.4, 0.3))
    return wave


def _xylophone(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Dry high strokes on partials that are no harmonics."""
    since, ratio = _notes(time, NOTES_PER_SECOND["xylophone"] * pace, (0, 3, 7, 10, 12))
    turns = 700 * pitch * ratio * since
    wave: Wave = np.exp(-9 * since) * (_harmonics(turns, (1,)) + 0.4 * _harmonics(2.76 * turns, (1,)))
    return wave


def _accordion(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Held chords of reeds that beat against each other."""
    since, ratio = _notes(time, NOTES_PER_SECOND["accordion"] * pace, (0, 5))
    chord = (1, 1.012, 1.26, 1.5)
    reeds = [_harmonics(220 * pitch * ratio * part * since, (1, 0.6, 0.6, 0.3, 0.3)) for part in chord]
    wave: Wave = np.minimum(since / 0.05, 1) * np.asarray(sum(reeds))
    return wave


def _voice(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Syllables of a low voice, on two vowels in turn, about four a second."""
    since, ratio = _notes(time, 4 * pace, (0, 3, 1, -2))
    vowels = (0.3, 0.5, 0.9, 1.0, 0.9, 0.5, 0.3, 0.3, 0.4), (0.9, 1.0, 0.6, 0.2, 0.1, 0.1, 0.1, 0.3, 0.5)
    phase = 125 * pitch * ratio * since
    first = np.mod(np.floor(time * 4 * pace), 2).astype(np.float32)
    shape = np.sin(np.pi * np.clip(since * 4 * pace / 0.85, 0, 1))
    wave: Wave = shape * (first * _harmonics(phase, vowels[0]) + (1 - first) * _harmonics(phase, vowels[1]))
    return wave


INSTRUMENTS: dict[str, Kind] = {
    "violin": KINDS["violin"],
    "piano": Kind(_look_of_piano, 0.62, 0.4, _piano),
    "drum": Kind(_look_of_drum, 0.97, 1.2, _drum),
    "flute": Kind(_look_of_flute, 0.5, 0.3, _flute),
    "trumpet": Kind(_look_of_trumpet, 0.14, 0.5, _trumpet),
    "xylophone": Kind(_look_of_xylophone, 0.3, 0.6, _xylophone),
    "accordion": Kind(_look_of_accordion, 0.8, 0.5, _accordion),
}
"""By the name that the dataset has for it."""

VOICE = "voice"
"""A kind that is no instrument and is never seen: its look is not used."""

CAST: dict[str, Kind] = {**INSTRUMENTS, VOICE: Kind(looks.baby, 0.0, 1.0, _voice)}
"""All that may take part in a scene of MUSIC-AVQA."""
