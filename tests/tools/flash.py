"""Flash-and-beep clips: a white picture and a tone begin at the same instants, in many kinds of containers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 64, 96
RATE = 48_000
SECONDS = 2.0
PERIOD, LENGTH = 0.5, 0.15
"""A flash and a beep every so many seconds, and how long they last."""


@dataclass(frozen=True)
class Kind:
    """How a clip is made.

    Attributes:
        fps: frames per second.
        video, audio: codecs.
        both_at: seconds by which both streams start late, flashes and beeps with them; early where it is below zero.
        cut_video, cut_audio: seconds that are left out at the start of a stream, whose rest stays in its place.
        steps: lengths of frames in milliseconds, in turn, for a variable rate; `fps` is of no matter then.
        degrees: rotation that the container asks for.
        pixels: format of the pictures.
        layout: channels of the sound.
        options: of the video encoder.
    """

    fps: Fraction = Fraction(25)
    video: str = "libx264"
    audio: str = "aac"
    both_at: float = 0.0
    cut_video: float = 0.0
    cut_audio: float = 0.0
    steps: tuple[int, ...] = ()
    degrees: int = 0
    pixels: str = "yuv420p"
    layout: str = "mono"
    options: dict[str, str] = field(default_factory=lambda: {"g": "25", "bf": "2"})

    def starts(self) -> list[Fraction]:
        """When each frame begins, seconds."""
        if not self.steps:
            return [Fraction(n) / self.fps for n in range(round(SECONDS * self.fps))]
        found, now = [], Fraction(0)
        while now < SECONDS:
            found.append(now)
            now += Fraction(self.steps[len(found) % len(self.steps)], 1000)
        return found

    def frame_seconds(self) -> float:
        """Length of a frame, the longest where they differ."""
        return max(self.steps) / 1000 if self.steps else float(1 / self.fps)

    def events(self) -> list[float]:
        """When flashes and beeps begin: with the first frame of each period but the first."""
        starts = np.array([float(start) for start in self.starts()])
        return [float(starts[starts >= at][0]) for at in np.arange(PERIOD, SECONDS - PERIOD / 2, PERIOD)]


def make(path: Path, kind: Kind, **options: str) -> Path:
    """Encodes a clip; `options` are those of the container."""
    time_base = Fraction(1, 1000) if kind.steps else 1 / kind.fps
    if (Fraction(kind.both_at).limit_denominator(1000) / time_base).denominator > 1:  # frames lie between its ticks
        time_base /= 100
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(kind.video, rate=kind.fps, options=kind.options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, kind.pixels
        video.codec_context.time_base = time_base
        if kind.degrees:
            video.set_display_rotation(kind.degrees)
        audio = container.add_stream(kind.audio, rate=RATE, layout=kind.layout)
        packets = _video(video, kind, time_base) + _audio(audio, kind)
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            container.mux(packet)
    return path


def shades(kind: Kind) -> list[int]:
    """Brightness of each frame."""
    events = kind.events()
    return [235 if any(at - 1e-6 <= start < at + LENGTH for at in events) else 16 for start in kind.starts()]


def _video(stream, kind: Kind, time_base: Fraction) -> list[tuple[float, av.Packet]]:
    packets, moved = [], Fraction(kind.both_at).limit_denominator(1000)
    for start, shade in zip(kind.starts(), shades(kind), strict=True):
        if start < kind.cut_video:
            continue
        frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), shade, np.uint8), format="rgb24")
        frame.time_base, frame.pts = time_base, round((start + moved) / time_base)
        packets += stream.encode(frame)
    return _timed(packets + stream.encode())


def _audio(stream, kind: Kind) -> list[tuple[float, av.Packet]]:
    wave = beeps(kind.events(), RATE)
    first = round(kind.cut_audio * RATE)
    frame = av.AudioFrame.from_ndarray(
        np.rint(wave[None, first:] * 32767).astype(np.int16), format="s16", layout="mono"
    )
    frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
    frame.pts = first + round(kind.both_at * RATE)
    context = stream.codec_context
    context.open()
    resampler = av.AudioResampler(context.format, kind.layout, RATE, frame_size=context.frame_size or 1024)
    packets = []
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        packets += stream.encode(part)
    return _timed(packets + stream.encode())


def _timed(packets: list[av.Packet]) -> list[tuple[float, av.Packet]]:
    return [(float((packet.dts or 0) * packet.time_base), packet) for packet in packets]


def beeps(events: list[float], rate: int) -> np.ndarray:
    """Tones of 1 kHz from each event on, float64 [n]."""
    time = np.arange(round(SECONDS * rate)) / rate
    wave = np.zeros_like(time)
    for at in events:
        inside = (time >= at) & (time < at + LENGTH)
        wave[inside] = 0.5 * np.sin(2 * np.pi * 1000 * (time[inside] - at))
    return wave


def flash_times(frames: np.ndarray, segment_seconds: float) -> list[float]:
    """Seconds at which pictures turn bright, from frames uint8 [T, H, W, 3] taken in the middle of each segment."""
    bright = frames.reshape(len(frames), -1).mean(1) > 126
    return [segment * segment_seconds for segment in np.flatnonzero(bright[1:] & ~bright[:-1]) + 1]


def beep_times(samples: np.ndarray, rate: int) -> list[float]:
    """Seconds at which sound sets in, from samples int16 [T, S]."""
    level = np.abs(samples.reshape(-1).astype(np.int32))
    loud = np.flatnonzero(level > max(400, 0.25 * level.max(initial=0)))
    return [float(here) / rate for here in loud[np.diff(loud, prepend=-rate) > rate * LENGTH]]
