"""Video frames by PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts
from avpipe.pipeline.media.readers.contract import ROUNDING_SECONDS, Shown, Shrink, typical_step


def read_pyav(facts: MediaFacts, video: VideoFacts, times: Sequence[float], shrink: Shrink) -> Shown:
    """Frames by PyAV (FFmpeg), decoded in order from the start to the last wanted one.

    Args, Returns: as `read_decord`.

    Raises:
        CannotVouch: decoding failed or flagged damage, time stamps do not advance, or frames end too early.
    """
    import av

    starts: list[float] = []
    frames: list[np.ndarray] = []
    failure = ""
    held: Any = None
    picture: np.ndarray | None = None  # of `held`, once it is wanted
    try:
        for frame in _decoded(facts, video):
            start = _start(frame, starts)
            while held is not None and len(frames) < len(times) and start > times[len(frames)] + ROUNDING_SECONDS:
                picture = shrink(_upright(held)) if picture is None else picture
                frames.append(picture)
            if len(frames) == len(times):
                break
            starts.append(start)
            held, picture = frame, None
    except av.error.FFmpegError as error:
        failure = f": {error.strerror or error}"
    frame_seconds = typical_step(np.asarray(starts), video)
    if len(frames) < len(times):
        _check_end(starts, frame_seconds, video, times[-1], failure)
        last = shrink(_upright(held)) if picture is None else picture
        frames += [last] * (len(times) - len(frames))
    return Shown(frames, starts[0], starts[-1] + frame_seconds, frame_seconds, f"pyav {av.__version__}")


def _decoded(facts: MediaFacts, video: VideoFacts) -> Iterator[Any]:
    with open_media(facts.path) as container:
        stream = container.streams[video.index]
        stream.codec_context.thread_count = 1  # processes run side by side already
        yield from container.decode(stream)


def _start(frame: Any, earlier: list[float]) -> float:
    if frame.pts is None:
        raise CannotVouch(f"PyAV: frame {len(earlier)} has no time stamp")
    start = float(frame.pts * frame.time_base)
    if frame.is_corrupt:
        raise CannotVouch(f"PyAV: the frame at {start:.2f} s is damaged")
    if earlier and start <= earlier[-1]:
        raise CannotVouch(f"PyAV: time stamps do not advance after {earlier[-1]:.3f} s")
    return start


def _check_end(starts: list[float], frame_seconds: float, video: VideoFacts, wanted: float, failure: str) -> None:
    """Decoding ended before the last wanted time: fine only where the video ends there by its own account."""
    if not starts:
        raise CannotVouch(f"PyAV decodes no frame{failure}")
    end = starts[-1] + frame_seconds
    declared = end if video.end_seconds is None else video.end_seconds
    short = end < min(declared, wanted) - max(0.1, 2 * frame_seconds)
    if short or (failure and video.end_seconds is None):
        raise CannotVouch(f"PyAV: frames end at {end:.2f} s, the container says {declared:.2f} s{failure}")


def _upright(frame: Any) -> np.ndarray:
    turned: np.ndarray = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned)
