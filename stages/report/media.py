"""Media of a clip for the page: the source video as it is, else the frames and the sound that the cache has stored.

Nothing is decoded from the user's files here: a video's bytes go into the page as they are, and the browser plays them.
What is in a container is asked of a process that can be killed.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.codecs import codec_pool, codecs_of
from avpipe.pipeline.media.sandbox import DecodeFuture
from avpipe.stages.backbones.front_ends import DecibelSpec, LogMelSpec, read
from avpipe.stages.backbones.front_ends.decibel import Decibel
from avpipe.stages.backbones.front_ends.fbank import Fbank
from avpipe.stages.backbones.front_ends.logmel import LogMel

VIDEO_BYTES = 4 << 20
"""Largest video that goes into a page."""
JPEG_QUALITY = 85
PROBE_SECONDS = 10.0
"""What one file may take to say which codecs it has."""
PLAYABLE = ("h264", "aac")
"""Codecs of picture and sound that every browser plays from an mp4."""


def playable_videos(clips: Sequence[Clip | None]) -> list[tuple[Path | None, str]]:
    """The source video of each clip where a browser plays it and it is small enough, else None and why.

    Returns:
        for each clip the file, and ""; or None, and the reason in a few words.
    """
    why_not = [_unfit(clip) for clip in clips]
    found: list[tuple[Path | None, str]] = [(None, why) for why in why_not]
    fit = [(place, clip) for place, (clip, why) in enumerate(zip(clips, why_not, strict=True)) if clip and not why]
    if not fit:
        return found
    with codec_pool(PROBE_SECONDS) as pool:
        probed = [(place, clip, pool.submit(clip)) for place, clip in fit]
        for place, clip, future in probed:
            why = _unplayable(future)
            found[place] = (None if why else clip.video, why)
    return found


def _unfit(clip: Clip | None) -> str:
    """Why a clip's video is not even opened; empty where it is."""
    if clip is None or clip.video is None:
        return "without a video file"
    if not clip.video.is_file():
        return "whose video file is missing"
    if clip.video.stat().st_size > VIDEO_BYTES:
        return f"whose video is larger than {VIDEO_BYTES >> 20} MiB"
    return ""


def _unplayable(future: DecodeFuture) -> str:
    """Why no browser would play a video that was asked for its codecs; empty where all do."""
    try:
        codecs = codecs_of(future.result())
    except InputRejected as error:
        if error.stage == "probe":
            return "whose video cannot be opened"
        return "whose video hangs or crashes FFmpeg"
    fits = "mp4" in codecs.container and (codecs.video, codecs.audio) == PLAYABLE
    return "" if fits else "whose video is no mp4 with H.264 and AAC"


def video(path: Path) -> dict[str, str]:
    """A video file as it is."""
    return {"type": "video/mp4", "data": encoded(path.read_bytes())}


def sound(samples: npt.NDArray[np.int16], sample_rate: int) -> dict[str, str]:
    """Stored samples `[T, S]` as one FLAC."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples.reshape(-1), sample_rate, format="FLAC", subtype="PCM_16")
    return {"type": "audio/flac", "data": encoded(stream.getvalue())}


def frames(stored: npt.NDArray[np.uint8]) -> list[str]:
    """Stored frames `[T, H, W, 3]` as JPEG."""
    return [_picture(frame, "JPEG", quality=JPEG_QUALITY) for frame in stored]


def grey(picture: npt.NDArray[np.uint8]) -> str:
    """A grey picture `[H, W]` as PNG."""
    return _picture(picture, "PNG")


def levels(chance: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Probabilities as 0 to 255: above 127 exactly where they are strictly above one half, as in the metric."""
    found = (chance * 255).round().astype(np.uint8)
    return np.where(chance > 0.5, np.maximum(found, 128), np.minimum(found, 127))


def spectrograms(samples: npt.NDArray[np.int16], backbone: Mapping[str, Any]) -> list[str] | None:
    """The spectrogram of every segment by the audio backbone's front end: low frequencies at the bottom.

    It is the segment by itself, neither repeated nor padded to what the backbone hears at once. The scale is the same
    in all clips: black is the front end's floor, white a sine at full scale.

    Args:
        samples: int16 `[T, S]`.
        backbone: field `backbone` of the audio spec.

    Returns:
        PNGs, or None where the backbone has no front end, or segments are shorter than its transform.
    """
    front_end = backbone.get("preprocess", {}).get("front_end")
    if front_end is None or samples.shape[1] < front_end["n_fft"]:
        return None
    pictures, black, white = _levels(torch.from_numpy(samples), front_end, backbone["input_size"])
    scaled = np.clip((pictures.numpy() - black) / (white - black), 0, 1)
    return [grey((picture[::-1] * 255).round().astype(np.uint8)) for picture in scaled]


def _levels(
    samples: torch.Tensor, front_end: Mapping[str, Any], size: Sequence[int]
) -> tuple[torch.Tensor, float, float]:
    """Pictures `[T, M, F]` of segments, and what the floor and the loudest sine are in them.

    A Hann window sums to half its length, and a sine has half in each sign.
    """
    spec = read(front_end)
    if isinstance(spec, DecibelSpec):
        front = Decibel(spec)
        loudest = (spec.n_fft / 4) ** 2 * float(front.filters.max())
        return front(samples)[:, 0].transpose(1, 2), 10 * math.log10(spec.floor), 10 * math.log10(loudest)
    loudest = 2 * math.log(spec.window / 4)
    if isinstance(spec, LogMelSpec):
        pictures, spread = LogMel(spec, (size[0], size[1]))(samples)[:, 0], spec.std
    else:
        frames = 1 + (samples.shape[1] - spec.window) // spec.hop
        spec = replace(spec, frames=frames, time_axis="columns", channels=1)
        pictures, spread = Fbank(spec)(samples)[:, 0], 2 * spec.std
    return pictures, (math.log(spec.floor) - spec.mean) / spread, (loudest - spec.mean) / spread


def encoded(data: bytes) -> str:
    """base64 as text."""
    return base64.b64encode(data).decode("ascii")


def _picture(values: npt.NDArray[np.uint8], kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, kind, **options)
    return encoded(stream.getvalue())
