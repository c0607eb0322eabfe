"""Readers of one picture for each second: avpipe's and bare ones, as people write them."""

from __future__ import annotations

from pathlib import Path

import av
import decord
import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.timeline import Timeline
from damage.clips import HEIGHT, SECONDS, WIDTH
from damage.outcome import Reading

WRONG = 0.01


def differ(picture: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> bool:
    """Whether the mean absolute difference of the pixels, of 255, is above 1 %."""
    return float(np.abs(picture.astype(np.int16) - right.astype(np.int16)).mean()) / 255 > WRONG


def spec(decoder: str = "decord") -> MediaSpec:
    """A frame for each second, in the size of the clips."""
    return MediaSpec(Timeline(), (HEIGHT, WIDTH), audio=False, decoder=decoder)


def by_avpipe(path: Path, decoder: str = "decord") -> Reading:
    """What goes into a cache."""
    try:
        clip = decode_clip(Clip("clip", SECONDS, video=path), spec(decoder))
    except InputRejected as error:
        return Reading([], str(error))
    return of_clip(clip.frames, clip.masks["visual"])


def of_clip(frames: npt.NDArray[np.uint8] | None, mask: npt.NDArray[np.bool_]) -> Reading:
    """The frames of a decoded clip; a stand-in counts as nothing."""
    assert frames is not None
    return Reading([frame if there else None for frame, there in zip(frames, mask, strict=True)])


def by_decord(path: Path) -> Reading:
    """Every n-th frame in a batch, n the rate that decord tells."""
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        numbers = list(range(0, len(reader), max(1, round(reader.get_avg_fps()))))
        return Reading(list(reader.get_batch(numbers).asnumpy()))
    except Exception as error:
        return Reading([], f"raised {type(error).__name__}")


def by_pyav(path: Path) -> Reading:
    """The last frame that starts before the middle of each second; exceptions and `is_corrupt` are heeded."""
    av.logging.set_level(None)
    parts: list[npt.NDArray[np.generic] | None] = []
    sign, held = "", None
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.is_corrupt:
                    sign = "is_corrupt"
                while held is not None and frame.time > len(parts) + 0.5 and len(parts) < SECONDS:
                    parts.append(held.to_ndarray(format="rgb24"))
                held = frame
            while held is not None and len(parts) < SECONDS and held.time + 0.1 > len(parts) + 0.5:
                parts.append(held.to_ndarray(format="rgb24"))
    except Exception as error:
        sign = f"raised {type(error).__name__}"
    return Reading(parts, sign)


READERS = {
    "decord": by_decord,
    "PyAV": by_pyav,
    "avpipe": by_avpipe,
    "avpipe --decoder pyav": lambda path: by_avpipe(path, "pyav"),
}
KINDS = ("h264", "h264-faststart", "h264-mkv", "mpeg4", "mpeg4-avi", "vp9")
