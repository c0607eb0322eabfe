"""Ten-second clips with real motion, texture and sound, in many codecs, and seeded damage to their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

SECONDS, FPS, HEIGHT, WIDTH, SOUND_RATE = 10, 25, 240, 320, 48_000


@dataclass(frozen=True, slots=True)
class ClipKind:
    """A container and what is in it.

    Attributes:
        suffix: of the file name; it tells the container.
        video: FFmpeg's name of the encoder, "" for no video.
        audio: as `video`.
        sound_bits: a second, of a lossy codec.
        options: of the container.
    """

    suffix: str
    video: str = ""
    audio: str = ""
    sound_bits: int = 96_000
    options: tuple[tuple[str, str], ...] = ()


CLIPS = {
    "h264": ClipKind(".mp4", "libx264", "aac"),
    "h264-faststart": ClipKind(".mp4", "libx264", "aac", options=(("movflags", "faststart"),)),
    "h264-mkv": ClipKind(".mkv", "libx264", "aac"),
    "mpeg4": ClipKind(".mp4", "mpeg4", "aac"),
    "mpeg4-avi": ClipKind(".avi", "mpeg4", "libmp3lame"),
    "vp9": ClipKind(".webm", "libvpx-vp9", "libopus"),
    "aac": ClipKind(".m4a", audio="aac"),
    "aac-adts": ClipKind(".aac", audio="aac"),
    "aac-ts": ClipKind(".ts", audio="aac"),
    "mp3": ClipKind(".mp3", audio="libmp3lame"),
    "mp3-untagged": ClipKind(".mp3", audio="libmp3lame", options=(("write_xing", "0"),)),
    "mp3-mkv": ClipKind(".mka", audio="libmp3lame"),
    "opus": ClipKind(".ogg", audio="libopus"),
    "opus-mkv": ClipKind(".mka", audio="libopus"),
    "flac": ClipKind(".flac", audio="flac"),
    "wav": ClipKind(".wav", audio="pcm_s16le"),
}


def make_clip(path: Path, kind: str, *, seconds: int = SECONDS, seed: int = 0) -> Path:
    """Encodes a clip of a kind in `CLIPS`: 320 x 240 at 25 frames a second, video and sound interleaved."""
    what = CLIPS[kind]
    with av.open(str(path), "w", options=dict(what.options)) as container:
        video = audio = None
        if what.video:
            video = container.add_stream(what.video, rate=FPS)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            video.codec_context.thread_count = 1
            fast = {"deadline": "realtime", "cpu-used": "8"} if "vpx" in what.video else {"preset": "veryfast"}
            video.options = fast if what.video != "mpeg4" else {"g": "50", "bf": "2"}
            video.bit_rate = 400_000
        if what.audio:
            audio = container.add_stream(what.audio, rate=SOUND_RATE, layout="stereo")
            audio.bit_rate = what.sound_bits
        wave, pictures = sound(seconds, seed), scene(seconds, seed)
        for second in range(seconds):
            for number in range(second * FPS, (second + 1) * FPS) if video is not None else ():
                picture = av.VideoFrame.from_ndarray(next(pictures), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, FPS)
                container.mux(video.encode(picture))
            if audio is not None:
                part = np.ascontiguousarray(wave[:, second * SOUND_RATE : (second + 1) * SOUND_RATE])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, second * SOUND_RATE, Fraction(1, SOUND_RATE)
                container.mux(audio.encode(frame))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def scene(seconds: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures uint8 [240, 320, 3]: a textured ground that pans, objects that cross it, grain, a cut every 4 s."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(seconds * FPS):
        if number % (4 * FPS) == 0:
            ground = _texture(rng, 2 * HEIGHT, 2 * WIDTH)
            place, speed = rng.uniform(60, 180, (5, 2)), rng.uniform(-3, 3, (5, 2))
            colours, radii = rng.integers(0, 256, (5, 3)), rng.uniform(12, 35, 5)
            pan = rng.uniform(-1.2, 1.2, 2)
        y, x = np.rint((number % (4 * FPS)) * pan).astype(int)
        picture = ground.take(np.arange(HEIGHT) - y, 0, mode="wrap").take(np.arange(WIDTH) - x, 1, mode="wrap")
        for (y, x), colour, radius in zip(place, colours, radii, strict=True):
            picture[(rows - y % HEIGHT) ** 2 + (columns - x % WIDTH) ** 2 < radius**2] = colour
        place = place + speed
        grain = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """Noise of several sizes in one picture [height, width, 3], 0 to 255, that wraps round at its edges."""
    total = np.zeros((height, width, 3))
    for size in (8, 20, 40, 80):
        coarse = rng.uniform(-1, 1, (height // size, width // size, 3))
        total += np.repeat(np.repeat(coarse, size, 0), size, 1) * size**0.5
    return 255 * (total - total.min()) / np.ptp(total)


def sound(seconds: int, seed: int) -> npt.NDArray[np.float32]:
    """Stereo float32 [2, n]: chords that change each half second, with overtones, decay and strokes of noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(SOUND_RATE // 2) / SOUND_RATE
    parts = []
    for _ in range(2 * seconds):
        wave = np.zeros((2, len(time)))
        for pitch in 110 * 2 ** (rng.integers(0, 30, 3) / 12):
            for overtone in range(1, 6):
                side = rng.uniform(0.2, 1, (2, 1)) / overtone
                wave += side * np.sin(2 * np.pi * pitch * overtone * time + rng.uniform(0, 6)) * np.exp(-2 * time)
        wave += rng.normal(0, 1, wave.shape) * np.exp(-40 * time)
        parts.append(0.7 * wave / np.abs(wave).max())
    return np.concatenate(parts, axis=1).astype(np.float32)


def corruptions(data: bytes, seed: int, count: int = 60) -> Iterator[tuple[str, bytes]]:
    """Damaged copies of a file: one third each of five flipped bits, a zeroed block, and a truncation, anywhere in it.

    Args:
        data: the sound file.
        seed: the same seed gives the same copies.
        count: copies in all; the kinds take turns.

    Yields:
        Kind (`bits`, `block` or `cut`) and bytes. A block has 64 to 4,096 bytes; a cut leaves 5 to 98 % of the file.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = ("bits", "block", "cut")[number % 3]
        damaged = bytearray(data)
        if kind == "bits":
            for place in rng.integers(0, 8 * len(data), 5):
                damaged[place // 8] ^= 1 << (place % 8)
        elif kind == "block":
            length = min(int(2 ** rng.uniform(6, 12)), len(data))
            start = int(rng.integers(0, len(data) - length + 1))
            damaged[start : start + length] = bytes(length)
        else:
            del damaged[int(len(data) * rng.uniform(0.05, 0.98)) :]
        yield kind, bytes(damaged)
