"""How each kind of object sounds: one function a kind, a waveform over time.

Kinds differ in pitch, spectrum and rhythm. Every sound is heard in each second, so that one second can be recognised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[Any]
"""float32 [samples]."""
Voice = Callable[[Wave, float, float, np.random.Generator], Wave]
"""`(time in seconds, pitch factor, pace factor, rng) -> waveform` of any level."""


def _mix(waves: list[Wave]) -> Wave:
    return np.asarray(np.sum(np.stack(waves), axis=0, dtype=np.float32))


def _tone(phase: Wave, strengths: list[float]) -> Wave:
    """Harmonics of a phase given in turns; the first strength belongs to the fundamental."""
    angle = 2 * np.pi * phase
    return _mix([s * np.sin((k + 1) * angle) for k, s in enumerate(strengths)])


def _turns(frequency: Wave, time: Wave) -> Wave:
    """Phase in turns of a changing frequency (Hz); float64 inside, since it grows over the clip."""
    return (np.cumsum(frequency, dtype=np.float64) * float(time[1] - time[0])).astype(np.float32)


def _noise(time: Wave, rng: np.random.Generator) -> Wave:
    return rng.standard_normal(time.shape, dtype=np.float32)


def _since(time: Wave, rate: float) -> Wave:
    """Seconds since the last of `rate` strokes a second."""
    return np.mod(time, 1 / rate)


def _smooth(wave: Wave, width: int) -> Wave:
    """Running mean over `width` samples: a simple low-pass."""
    total = np.cumsum(np.pad(wave, (width, 0)), dtype=np.float64)
    return ((total[width:] - total[:-width]) / width).astype(np.float32)


def bell(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Strokes on partials that are no harmonics, each dying away."""
    since = _since(time, 1.5 * pace)
    partials = ((0.5, 0.5), (1, 1.0), (1.19, 0.7), (1.56, 0.4), (2.0, 0.8), (2.74, 0.4), (3.76, 0.2))
    parts = [a * np.sin(2 * np.pi * 440 * pitch * r * since) * np.exp(-(2 + r) * since) for r, a in partials]
    return _mix(parts)


def dog(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Short barks: a falling tone with breath, three a second."""
    since = _since(time, 3 * pace)
    shape = np.minimum(since / 0.01, 1) * np.exp(-((since / 0.09) ** 2))
    tone = _tone(pitch * (750 * since - 1400 * since**2), [1, 0.8, 0.6, 0.3])
    wave: Wave = shape * (tone + 0.5 * _smooth(_noise(time, rng), 4))
    return wave


def helicopter(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Low noise chopped twelve times a second, with a hum."""
    chop = np.exp(-30 * _since(time, 12 * pace))
    wave: Wave = chop * _smooth(_noise(time, rng), 24) * 4 + 0.25 * _tone(85 * pitch * time, [1, 0.5])
    return wave


def violin(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """A long rich tone with vibrato, two notes in turn."""
    note = np.where(_since(time, 0.8 * pace) < 0.6, 1.0, 1.125).astype(np.float32)
    frequency = 590 * pitch * note * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * time))
    return _tone(_turns(frequency, time), [1, 0.8, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25])


def train(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """A chord of three steady horns."""
    sway = 1 + 0.15 * np.sin(2 * np.pi * 1.3 * pace * time)
    wave: Wave = sway * _mix([_tone(f * pitch * time, [1, 0.6, 0.5, 0.25]) for f in (277, 330, 415)])
    return wave


def clock(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Dry clicks, four a second, high and low in turn."""
    since = _since(time, 4 * pace)
    high = np.mod(np.floor(time * 4 * pace), 2)
    wave: Wave = np.exp(-90 * since) * np.sin(2 * np.pi * (2300 + 900 * high) * pitch * since)
    return wave


def baby(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """Wails that glide up and down."""
    cycle = _since(time, 1.4 * pace) * 1.4 * pace
    frequency = pitch * (340 + 420 * np.sin(np.pi * cycle))
    wave: Wave = np.sqrt(np.abs(np.sin(np.pi * cycle))) * _tone(_turns(frequency, time), [0.6, 1, 0.7, 0.5, 0.2])
    return wave


def motorcycle(time: Wave, pitch: float, pace: float, rng: np.random.Generator) -> Wave:
    """A rough engine that revs up and down."""
    frequency = 52 * pitch * (1 + 0.3 * np.sin(2 * np.pi * 0.9 * pace * time))
    engine = _tone(_turns(frequency, time), [1, 0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    wave: Wave = np.tanh(2 * engine) + 0.15 * _noise(time, rng)
    return wave
