"""Pictures, sound and videos of a made-up report: a disk that wanders, and a tone."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from avpipe.stages.demo.encode import write_mp4, write_wav

SIDE, RATE, PICTURES = 96, 16_000, 10  # pixels, samples and pictures a second


def disk_at(seconds: float) -> tuple[float, float]:
    return 0.2 + 0.06 * seconds, 0.5 + 0.25 * float(np.sin(seconds))


def blob(x: float, y: float, radius: float, soft: float) -> np.ndarray:
    """`[SIDE, SIDE]` float, 1 inside a disk; the edge is `soft` wide."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.clip((radius - np.hypot(columns - x, rows - y)) / (soft or 1e-6) + 0.5, 0, 1)


def picture(seconds: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    ground = np.stack([60 + 60 * rows, 80 + 50 * columns, 110 - 40 * rows], axis=-1)
    disk = blob(*disk_at(seconds), 0.16, 0.02)[..., None]
    return (ground * (1 - disk) + np.array([230, 150, 60]) * disk).astype(np.uint8)


def spectrogram(segment: int) -> np.ndarray:
    rows, columns = np.mgrid[:64, :96]
    line = np.exp(-((63 - rows - 12 - 4 * segment - 3 * np.sin(columns / 9)) ** 2) / 8)
    noise = np.random.default_rng(segment).uniform(0, 0.25, line.shape)
    return (255 * np.clip(0.8 * line + noise, 0, 1)).astype(np.uint8)


def media(segments: int) -> tuple[dict[str, str], dict[str, str]]:
    """A video with sound (H.264 and AAC), and the same sound as wav."""
    pictures = np.stack([picture(i / PICTURES) for i in range(segments * PICTURES)])
    sound = 0.2 * np.sin(np.arange(segments * RATE) * 0.17, dtype=np.float32)[None]
    with tempfile.TemporaryDirectory() as folder:
        video, audio = Path(folder) / "v.mp4", Path(folder) / "a.wav"
        write_mp4(video, pictures, PICTURES, sound, RATE)
        write_wav(audio, sound, RATE)
        return _blob_of("video/mp4", video.read_bytes()), _blob_of("audio/wav", audio.read_bytes())


def _blob_of(kind: str, data: bytes) -> dict[str, str]:
    return {"type": kind, "data": base64.b64encode(data).decode()}


def jpeg(picture: np.ndarray) -> str:
    return _encoded(picture, "JPEG")


def png(picture: np.ndarray) -> str:
    return _encoded(picture, "PNG")


def _encoded(picture: np.ndarray, kind: str) -> str:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format=kind)
    return base64.b64encode(out.getvalue()).decode()
