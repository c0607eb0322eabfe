"""Writes real media files: H.264 and AAC in mp4, wav, PNG, JPEG."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_mp4(
    path: Path, pictures: NDArray[np.uint8], frames_per_second: int, sound: NDArray[np.float32], sample_rate: int
) -> None:
    """Writes a video with sound.

    One encoder thread and fixed options: the same pictures and sound give the same file on the same machine.

    Args:
        path: file to write.
        pictures: uint8 [frames, H, W, 3], RGB; H and W even.
        frames_per_second: picture rate.
        sound: float32 [channels, samples], one or two channels.
        sample_rate: samples a second.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=frames_per_second)
        video.height, video.width = pictures.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "superfast", "crf": "26", "g": str(4 * frames_per_second)}
        video.codec_context.thread_count = 1
        layout = "mono" if len(sound) == 1 else "stereo"
        audio = container.add_stream("aac", rate=sample_rate, layout=layout)
        audio.options = {"aac_coder": "fast"}
        # A second of each in turn, so that the file is interleaved like a real one.
        for second in range(-(-len(pictures) // frames_per_second)):
            for index in range(second * frames_per_second, min((second + 1) * frames_per_second, len(pictures))):
                frame = av.VideoFrame.from_ndarray(pictures[index], format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, frames_per_second)
                container.mux(video.encode(frame))
            chunk = np.ascontiguousarray(sound[:, second * sample_rate : (second + 1) * sample_rate])
            container.mux(audio.encode(_audio_frame(chunk, layout, second * sample_rate, sample_rate)))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _audio_frame(chunk: NDArray[np.float32], layout: str, first: int, sample_rate: int) -> Any:
    import av

    frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, first, Fraction(1, sample_rate)
    return frame


def write_wav(path: Path, sound: NDArray[np.float32], sample_rate: int) -> None:
    """Writes a 16-bit wav; `sound` is float32 [channels, samples], -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(sound.T, -1, 1) * 32767).round().astype("<i2").tobytes())


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes a JPEG; `picture` is uint8 [H, W, 3] RGB."""
    from PIL import Image

    Image.fromarray(picture).save(path, format="JPEG", quality=95)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes a PNG; `picture` is uint8 [H, W, 3] RGB or [H, W] grey."""
    from PIL import Image

    Image.fromarray(picture).save(path, format="PNG", compress_level=1)
