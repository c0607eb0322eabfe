"""Where decoded frames of sound lie on the clip's clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

# Containers round time stamps to milliseconds; a step beyond this is a real gap or overlap.
RESYNC_SECONDS = 0.005


def placed(frames: Iterable[Any], origin_seconds: float) -> Iterator[tuple[int, Any]]:
    """Tells at which sample each frame starts: right after the one before, or at its time stamp where they disagree.

    A time stamp that the next frame contradicts is not believed: in Ogg, FFmpeg stamps each frame in which Vorbis
    changes its block size some 9 ms late, and the one after it rightly.

    Args:
        frames: of PyAV, in order.
        origin_seconds: where second 0 of the clip lies on the container's clock.

    Yields:
        Number of the first sample, and the frame.
    """
    cursor, doubtful = 0, None
    for frame in frames:
        if doubtful is not None:
            start = (
                cursor
                if _agrees(frame, cursor + doubtful.samples, origin_seconds)
                else _stamp(doubtful, origin_seconds)
            )
            yield start, doubtful
            cursor, doubtful = start + doubtful.samples, None
        if _agrees(frame, cursor, origin_seconds):
            yield cursor, frame
            cursor += frame.samples
        else:
            doubtful = frame
    if doubtful is not None:
        yield _stamp(doubtful, origin_seconds), doubtful


def _agrees(frame: Any, cursor: int, origin_seconds: float) -> bool:
    """Whether a frame, by its time stamp, starts there; one that has none does."""
    if frame.pts is None:
        return True
    return bool(abs(_stamp(frame, origin_seconds) - cursor) <= RESYNC_SECONDS * frame.sample_rate)


def _stamp(frame: Any, origin_seconds: float) -> int:
    seconds: float = float(frame.pts * frame.time_base) - origin_seconds
    rate: int = frame.sample_rate
    return round(seconds * rate)
