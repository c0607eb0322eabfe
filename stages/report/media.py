"""Media of a clip for the page: the source video as it is, else the frames and the sound that the cache has stored.

Nothing is decoded from the user's files here: a video's bytes go into the page as they are, and the browser plays them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.probe import probe
from avpipe.stages.backbones.logmel import LogMel

VIDEO_BYTES = 4 << 20
"""Largest video that goes into a page."""
JPEG_QUALITY = 85
PLAYABLE = ("h264", "aac")
"""Codecs of picture and sound that every browser plays from an mp4."""


def playable_video(clip: Clip | None) -> tuple[Path | None, str]:
    """The clip's source video where a browser plays it and it is small enough, else None and why.

    Returns:
        the file, and ""; or None, and the reason in a few words.
    """
    if clip is None or clip.video is None:
        return None, "without a video file"
    if not clip.video.is_file():
        return None, "whose video file is missing"
    if clip.video.stat().st_size > VIDEO_BYTES:
        return None, f"whose video is larger than {VIDEO_BYTES >> 20} MiB"
    try:
        facts = probe(clip.video)
    except InputRejected:
        return None, "whose video cannot be opened"
    codecs = tuple(stream.codec if stream else "" for stream in (facts.video, facts.audio))
    if "mp4" not in facts.container.split(",") or codecs != PLAYABLE:
        return None, "whose video is no mp4 with H.264 and AAC"
    return clip.video, ""


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


def spectrograms(samples: npt.NDArray[np.int16], backbone: Mapping[str, Any]) -> list[str] | None:
    """The log-mel picture of every segment, as the audio backbone saw it: low frequencies at the bottom.

    The scale is the same in all clips: black is the front end's floor, white a sine at full scale.

    Args:
        samples: int16 `[T, S]`.
        backbone: field `backbone` of the audio spec.

    Returns:
        PNGs, or None where the backbone has another front end.
    """
    options = backbone.get("preprocess", {}).get("front_end", {})
    if options.get("kind") != "logmel":
        return None
    bands, steps = backbone["input_size"]
    pictures = LogMel(dict(options), (bands, steps))(torch.from_numpy(samples))[:, 0].numpy()  # T M F
    loudest = 2 * np.log(options["window"] / 4)  # a Hann window sums to half its length, a sine has half in each sign
    black, white = ((level - options["mean"]) / options["std"] for level in (np.log(options["floor"]), loudest))
    scaled = np.clip((pictures - black) / (white - black), 0, 1)
    return [grey((picture[::-1] * 255).round().astype(np.uint8)) for picture in scaled]


def encoded(data: bytes) -> str:
    """base64 as text."""
    return base64.b64encode(data).decode("ascii")


def _picture(values: npt.NDArray[np.uint8], kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, kind, **options)
    return encoded(stream.getvalue())
