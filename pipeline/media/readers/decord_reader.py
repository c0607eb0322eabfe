"""Video frames by decord."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts
from avpipe.pipeline.media.readers.contract import ROUNDING_SECONDS, Shown, Shrink, load, refuse_edit, typical_step
from avpipe.pipeline.media.signs import damage, native_lines

# Containers that lead back to their first frame. In an MPEG transport stream decord rewinds to a later key frame, and
# shows frame 16 as frame 0.
_REWINDABLE = frozenset({"mov", "matroska", "avi", "flv"})

# Where a decoder gives no frame for a packet, decord's picture i is not that of time stamp i, and only at the end does
# it notice and repeat the last one (QuickTime animation with equal frames, MPEG-4 with frames that are not coded).
_NONE_MADE_UP = 1e-9  # of all frames; decord takes 0 for "any number"
_STEADY = frozenset({"h264", "hevc", "vp8", "vp9"})  # a frame for every packet: no need to see the end

_AV_LOG_PRINT_LEVEL = 2


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
        CannotVouch: decord failed, its FFmpeg logged an error, its time stamps disagree with the container, or it
            cannot rewind such a container.
        EnvironmentLacking: decord is not installed.
    """
    if facts.container.split(",")[0] not in _REWINDABLE:
        raise CannotVouch(f"decord does not find the first frame of {facts.container!r} files")
    refuse_edit(video, "decord")
    decord = load("decord", "decord has no wheel for this machine? use the decoder `pyav`")
    _print_levels(decord)
    decord.logging.set_level(decord.logging.INFO)  # the level at which its FFmpeg admits that it conceals damage
    try:
        with native_lines() as lines:  # it gives no flag of a damaged frame, nor raises
            shown = _read(decord, facts, video, times, shrink)
            said = damage(lines())
    finally:
        decord.logging.set_level(decord.logging.QUIET)
    if said is not None:
        raise CannotVouch(f"decord: {said}")
    return shown


def _print_levels(decord: Any) -> None:
    """Has decord's own FFmpeg print each line with its level. Where that is not found, every line counts as an error,
    and PyAV is asked more often."""
    for library in Path(decord.__file__).parent.with_name("decord.libs").glob("libavutil*"):
        ctypes.CDLL(str(library)).av_log_set_flags(_AV_LOG_PRINT_LEVEL)


def _read(decord: Any, facts: MediaFacts, video: VideoFacts, times: Sequence[float], shrink: Shrink) -> Shown:
    try:
        reader = decord.VideoReader(str(facts.path), num_threads=1, fault_tol=_NONE_MADE_UP)
        stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
    except Exception as error:  # decord raises its own, RuntimeError and AssertionError alike
        raise CannotVouch(f"decord cannot open it ({_message(error)})") from error
    starts = stamps[:, 0] + video.start_seconds  # decord counts from the start of the stream
    frame_seconds = typical_step(starts, video)
    _check_decord(starts, frame_seconds, video)
    held = np.searchsorted(starts, np.asarray(times) + ROUNDING_SECONDS, side="right") - 1
    indices = [max(0, int(index)) for index in held]
    try:
        frames = {index: shrink(picture) for index, picture in _in_order(reader, sorted(set(indices)))}
        if video.codec not in _STEADY:
            for _ in range(len(reader) - 1 - max(indices)):
                reader.next()  # raises where frames run out before time stamps do
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


def _message(error: Exception) -> str:
    """The first line of a decord error, without the places in its source that it starts with."""
    line = (str(error).strip().splitlines() or [""])[0]
    return re.sub(r"\[\d+:\d+:\d+\] \S+:\d+: ", "", line)[:120] or type(error).__name__
