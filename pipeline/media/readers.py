"""Video frames at given times: backends behind one small contract, found by name in `READERS`.

A reader shows, for each wanted time, the frame whose presentation interval holds it, by the time stamps of the frames
and never by counting. Every backend turns the picture as the container's rotation says, in quarter turns; a mirror
image in the display matrix is not undone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts

# Matroska and FLV round time stamps to milliseconds: a frame wanted at its very start may be stamped that much later.
ROUNDING_SECONDS = 1e-3

# Containers that lead back to their first frame. In an MPEG transport stream decord rewinds to a later key frame, and
# shows frame 16 as frame 0.
_REWINDABLE = frozenset({"mov", "matroska", "avi", "flv"})

Shrink = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader found.

    Attributes:
        frames: one picture per wanted time, as `shrink` returned it; the same object where a frame is shown twice.
        begin_seconds: start of the first frame, on the container's clock.
        end_seconds: end of the last frame that was seen, on the container's clock.
        frame_seconds: typical length of a frame.
        backend: name and version.
    """

    frames: list[np.ndarray]
    begin_seconds: float
    end_seconds: float
    frame_seconds: float
    backend: str


Reader = Callable[[MediaFacts, VideoFacts, Sequence[float], Shrink], Shown]
READERS: dict[str, Reader] = {}


def _reader(name: str) -> Callable[[Reader], Reader]:
    def register(read: Reader) -> Reader:
        READERS[name] = read
        return read

    return register


def load(module: str, hint: str) -> Any:
    """Imports a decoder's module.

    Raises:
        EnvironmentLacking: it is not installed here, or does not load.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise EnvironmentLacking(f"decoder {module!r} cannot be imported: {error} ({hint})") from error


@_reader("decord")
def read_decord(facts: MediaFacts, video: VideoFacts, times: Sequence[float], shrink: Shrink) -> Shown:
    """Frames by decord, decoded in order from the start to the last wanted one.

    decord stamps frames from the packets but counts decoded frames, so where an edit list hides frames its picture i is
    not that of time stamp i. Such files show time stamps that start before the stream does or end after it: refused.

    Args:
        facts: of the container.
        video: of the stream.
        times: wanted times on the container's clock, seconds, ascending.
        shrink: applied to each picture, uint8 [H, W, 3] RGB.

    Raises:
        CannotVouch: decord failed, its time stamps disagree with the container, or it cannot rewind such a container.
        EnvironmentLacking: decord is not installed.
    """
    if facts.container.split(",")[0] not in _REWINDABLE:
        raise CannotVouch(f"decord does not find the first frame of {facts.container!r} files")
    decord = load("decord", "decord has no wheel for this machine? use the decoder `pyav`")
    try:
        reader = decord.VideoReader(str(facts.path), num_threads=1)
        stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
    except Exception as error:  # decord raises its own, RuntimeError and AssertionError alike
        raise CannotVouch(f"decord cannot open it ({_message(error)})") from error
    starts = stamps[:, 0] + video.start_seconds  # decord counts from the start of the stream
    frame_seconds = _typical_step(starts, video)
    _check_decord(starts, frame_seconds, video)
    held = np.searchsorted(starts, np.asarray(times) + ROUNDING_SECONDS, side="right") - 1
    indices = [max(0, int(index)) for index in held]
    try:
        frames = {index: shrink(picture) for index, picture in _in_order(reader, sorted(set(indices)))}
    except CannotVouch:
        raise
    except Exception as error:
        raise CannotVouch(f"decord fails while decoding ({_message(error)})") from error
    end = float(starts[-1]) + frame_seconds
    shown = [frames[index] for index in indices]
    return Shown(shown, float(starts[0]), end, frame_seconds, f"decord {decord.__version__}")


def _in_order(reader: Any, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames by number, each one stepped through.

    decord's seeking, skipping and batches give another frame than the one asked for behind the key frames of an open
    GOP (H.264, HEVC) and with B-frames in MPEG-4: 16 of 18 frames of one clip. Only its `next` is right everywhere.
    """
    position = 0
    for index in indices:
        for _ in range(index - position):
            reader.next()
        picture = reader.next().asnumpy()
        if picture.shape[2] != 3:  # decord takes padded rows for a fourth channel where a picture is narrow
            raise CannotVouch(f"decord gives {picture.shape[2]} channels for a picture {picture.shape[1]} pixels wide")
        yield index, picture
        position = index + 1


def _check_decord(starts: np.ndarray, frame_seconds: float, video: VideoFacts) -> None:
    if not np.isfinite(starts).all() or (np.diff(starts) <= 0).any():
        raise CannotVouch("decord's time stamps do not advance")
    if abs(starts[0] - video.start_seconds) > frame_seconds / 2:
        raise CannotVouch(f"decord starts at {starts[0]:.3f} s, the container at {video.start_seconds:.3f} s")
    end = starts[-1] + frame_seconds
    if video.end_seconds is not None and abs(end - video.end_seconds) > max(0.1, 2 * frame_seconds):
        raise CannotVouch(f"decord's frames end at {end:.2f} s, the container says {video.end_seconds:.2f} s")


@_reader("pyav")
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
    frame_seconds = _typical_step(np.asarray(starts), video)
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


def _typical_step(starts: np.ndarray, video: VideoFacts) -> float:
    if len(starts) > 1:
        return float(np.median(np.diff(starts)))
    return video.frame_seconds or 0.04


def _message(error: Exception) -> str:
    """The first line of a decord error, without the places in its source that it starts with."""
    line = (str(error).strip().splitlines() or [""])[0]
    return re.sub(r"\[\d+:\d+:\d+\] \S+:\d+: ", "", line)[:120] or type(error).__name__
