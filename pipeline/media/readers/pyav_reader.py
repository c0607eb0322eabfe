"""Video frames by PyAV (FFmpeg)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.edits import Edit
from avpipe.pipeline.media.probe import BROADCAST, JUMP_SECONDS, CannotVouch, MediaFacts, VideoFacts
from avpipe.pipeline.media.readers.contract import ROUNDING_SECONDS, Shown, Shrink, typical_step
from avpipe.pipeline.media.signs import Line, Lines, damage, libav_lines

_LEAST_PICTURE_BYTES = 6
"""For each pixel: four pictures of 12 bits, without which no decoder gets far."""


def read_pyav(facts: MediaFacts, video: VideoFacts, times: Sequence[float], shrink: Shrink) -> Shown:
    """Frames by PyAV (FFmpeg), decoded in order from the start to the last wanted one.

    Args, Returns: as `read_decord`.

    Raises:
        CannotVouch: decoding failed, flagged damage or logged an error up to the last wanted frame; time stamps do not
            advance, or frames end too early.
        MemoryError: there is not enough.
    """
    import av

    lines: Lines = list
    try:
        with open_media(facts.path, edits=video.edit is None) as container:
            stream = container.streams[video.index]
            stream.codec_context.thread_count = 1  # processes run side by side already; and see `libav_lines`
            with libav_lines() as lines:  # from here on: what is odd about a container as such need not harm pictures
                decoded = _decoded(container, stream)
                if video.edit is not None:
                    decoded = _edited(decoded, video.edit)
                shown = _read(decoded, facts.container, video, times, shrink)
                said = damage(lines())
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError) or _short_of_memory(lines(), video):
            raise MemoryError from error
        raise CannotVouch(f"PyAV fails: {error.strerror or error}") from error
    if said is not None:
        if _short_of_memory(lines(), video):
            raise MemoryError
        raise CannotVouch(f"PyAV: {said}")
    return shown


def _short_of_memory(lines: list[Line], video: VideoFacts) -> bool:
    """Whether decoding may have failed for lack of memory, which FFmpeg often takes for damage of the data."""
    if any("allocate memory" in line.text for line in lines):
        return True
    try:
        bytearray(video.width * video.height * _LEAST_PICTURE_BYTES)
    except MemoryError:
        return True
    return False


def _decoded(container: Any, stream: Any) -> Iterator[tuple[Any, float | None]]:
    """Frames with their starts in seconds, None where a frame has no time stamp.

    AVI has no presentation times, and with B-frames FFmpeg's are made up: some a frame late, some out of order. But its
    packets lie at an even rate, and frames are shown at that rate: the nth frame begins where the nth packet lies.
    """
    if container.format.name != "avi":
        for frame in container.decode(stream):
            yield frame, None if frame.pts is None else float(frame.pts * frame.time_base)
        return
    places: deque[float] = deque()
    for packet in container.demux(stream):
        if packet.dts is not None:
            places.append(float(packet.dts * packet.time_base))
        for frame in packet.decode():
            yield frame, places.popleft() if places else None


def _edited(decoded: Iterator[tuple[Any, float | None]], edit: Edit) -> Iterator[tuple[Any, float | None]]:
    """The frames that an edit list presents, on the container's clock. What is shown as it begins, begins with it."""
    hidden: Any = None
    for frame, stamp in decoded:
        start = None if stamp is None else edit.begin_seconds + stamp - edit.media_seconds
        if start is not None and start <= edit.begin_seconds:
            hidden = frame
            continue
        if hidden is not None:
            yield hidden, edit.begin_seconds
            hidden = None
        if start is not None and start >= edit.end_seconds:
            return
        yield frame, start
    if hidden is not None:
        yield hidden, edit.begin_seconds


def _read(
    decoded: Iterable[tuple[Any, float | None]],
    container: str,
    video: VideoFacts,
    times: Sequence[float],
    shrink: Shrink,
) -> Shown:
    import av

    starts: list[float] = []
    frames: list[np.ndarray] = []
    held: Any = None
    picture: np.ndarray | None = None  # of `held`, once it is wanted
    for frame, stamp in decoded:
        start = _checked(frame, stamp, starts, container)
        while held is not None and len(frames) < len(times) and start > times[len(frames)] + ROUNDING_SECONDS:
            picture = shrink(_upright(held)) if picture is None else picture
            frames.append(picture)
        if len(frames) == len(times):
            break
        starts.append(start)
        held, picture = frame, None
    frame_seconds = typical_step(np.asarray(starts), video)
    if len(frames) < len(times):
        _check_end(starts, frame_seconds, video, times[-1])
        last = shrink(_upright(held)) if picture is None else picture
        frames += [last] * (len(times) - len(frames))
    return Shown(frames, starts[0], starts[-1] + frame_seconds, frame_seconds, f"pyav {av.__version__}")


def _checked(frame: Any, stamp: float | None, earlier: list[float], container: str) -> float:
    if stamp is None:
        raise CannotVouch(f"PyAV: frame {len(earlier)} has no time stamp")
    if frame.is_corrupt:
        raise CannotVouch(f"PyAV: the frame at {stamp:.2f} s is damaged")
    if earlier and stamp <= earlier[-1]:
        raise CannotVouch(f"PyAV: time stamps do not advance after {earlier[-1]:.3f} s")
    if earlier and container in BROADCAST and stamp - earlier[-1] > JUMP_SECONDS:
        raise CannotVouch(f"PyAV: time stamps jump from {earlier[-1]:.2f} s to {stamp:.2f} s")
    return stamp


def _check_end(starts: list[float], frame_seconds: float, video: VideoFacts, wanted: float) -> None:
    """Decoding ended before the last wanted time: fine only where the video ends there by its own account."""
    if not starts:
        raise CannotVouch("PyAV decodes no frame")
    end = starts[-1] + frame_seconds
    if video.end_seconds is not None and end < min(video.end_seconds, wanted) - max(0.1, 2 * frame_seconds):
        raise CannotVouch(f"PyAV: frames end at {end:.2f} s, the container says {video.end_seconds:.2f} s")


def _upright(frame: Any) -> np.ndarray:
    turned: np.ndarray = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned)
