"""Video frames by torchcodec, an optional extra: it brings torch with it and needs FFmpeg's shared libraries."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts
from avpipe.pipeline.media.readers.contract import ROUNDING_SECONDS, Shown, Shrink, load, refuse_edit, typical_step
from avpipe.pipeline.media.signs import damage, native_lines

INSTALL = "pip install 'avpipe[torchcodec]', and FFmpeg 4 to 9 with its shared libraries: apt-get install ffmpeg"
"""What a user does to have this backend."""

_UTIL_VERSION = 52
"""By how much the version of FFmpeg's libavutil is above that of FFmpeg."""
_AV_LOG_PRINT_LEVEL = 2


def read_torchcodec(facts: MediaFacts, video: VideoFacts, times: Sequence[float], shrink: Shrink) -> Shown:
    """Frames by torchcodec in its exact mode, each asked for by number and believed by its time stamp.

    The time stamps come from the container's packets, read by PyAV, so two readings of the file must agree: on the
    number of frames, and on the time stamp of every one that is shown.

    Args, Returns: as `read_decord`.

    Raises:
        CannotVouch: torchcodec failed, or disagrees with the container.
        EnvironmentLacking: torchcodec is not installed, or finds no FFmpeg.
    """
    refuse_edit(video, "torchcodec")
    module, decoders = load("torchcodec", INSTALL), load("torchcodec.decoders", INSTALL)
    ffmpeg = module.ffmpeg_major_version
    if ffmpeg is None:  # then it can be imported, and decodes pictures alone
        raise EnvironmentLacking(f"torchcodec {module.__version__} finds no FFmpeg ({INSTALL})")
    starts = _starts(facts, video)
    frame_seconds = typical_step(starts, video)
    held = np.searchsorted(starts, np.asarray(times) + ROUNDING_SECONDS, side="right") - 1
    indices = [max(0, int(index)) for index in held]
    os.environ["TORCHCODEC_FFMPEG_LOG_LEVEL"] = _log_level(ffmpeg)  # it is silent by default, about damage too
    try:
        with native_lines() as lines:
            frames = _frames(decoders, facts, video, starts, indices, shrink)
            said = damage(lines())
    except (CannotVouch, MemoryError):
        raise
    except Exception as error:  # RuntimeError, IndexError, ValueError and more, from C++ mostly
        raise CannotVouch(f"torchcodec fails ({_message(error)})") from error
    if said is not None:
        raise CannotVouch(f"torchcodec's FFmpeg complains ({said})")
    end = float(starts[-1]) + frame_seconds
    shown = [frames[index] for index in indices]
    return Shown(shown, float(starts[0]), end, frame_seconds, f"torchcodec {module.__version__} (FFmpeg {ffmpeg})")


def _log_level(ffmpeg: int) -> str:
    """The level at which FFmpeg admits that it conceals damage, if each line can be made to carry its own level."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(f"libavutil.so.{ffmpeg + _UTIL_VERSION}").av_log_set_flags(_AV_LOG_PRINT_LEVEL)  # loaded already
        return "INFO"
    return "ERROR"


def _frames(
    decoders: Any, facts: MediaFacts, video: VideoFacts, starts: np.ndarray, indices: Sequence[int], shrink: Shrink
) -> dict[int, np.ndarray]:
    """The frames of some numbers, shrunk."""
    # An open file, not its name: torchcodec then lets FFmpeg open nothing else that the file may refer to.
    with facts.path.open("rb") as file:
        decoder = decoders.VideoDecoder(
            file, stream_index=video.index, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
        )
        if len(decoder) != len(starts):
            raise CannotVouch(f"torchcodec counts {len(decoder)} frames, the container has {len(starts)}")
        # Never backwards: the frame after a step back has been a wrong one in HEVC.
        return {index: shrink(_picture(decoder, index, float(starts[index]))) for index in sorted(set(indices))}


def _starts(facts: MediaFacts, video: VideoFacts) -> np.ndarray:
    """Time stamps of the frames that the container presents, ascending, seconds on its clock, float64 [n]."""
    import av

    stamps = []
    try:
        with open_media(facts.path) as container:
            stream: Any = container.streams[video.index]
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_discard:
                    stamps.append(packet.pts)
            starts: np.ndarray = np.sort(np.asarray(stamps, dtype=np.float64)) * float(stream.time_base)
    except av.error.FFmpegError as error:
        raise CannotVouch(f"the container cannot be read through ({error.strerror or error})") from error
    if not len(starts):
        raise CannotVouch("the container holds no frame that is shown")
    if (np.diff(starts) <= 0).any():
        raise CannotVouch("two frames of the container have one time stamp")
    _check_ends(starts, typical_step(starts, video), video)
    return starts


def _check_ends(starts: np.ndarray, frame_seconds: float, video: VideoFacts) -> None:
    if abs(starts[0] - video.start_seconds) > frame_seconds / 2:
        raise CannotVouch(f"its packets start at {starts[0]:.3f} s, the container says {video.start_seconds:.3f} s")
    end = starts[-1] + frame_seconds
    if video.end_seconds is not None and abs(end - video.end_seconds) > max(0.1, 2 * frame_seconds):
        raise CannotVouch(f"its packets end at {end:.2f} s, the container says {video.end_seconds:.2f} s")


def _picture(decoder: Any, index: int, start: float) -> np.ndarray:
    """Frame `index`, uint8 [H, W, 3]; torchcodec turns it as the container's rotation says."""
    frame = decoder.get_frame_at(index)
    if abs(frame.pts_seconds - start) > ROUNDING_SECONDS:
        raise CannotVouch(f"torchcodec gives the frame at {frame.pts_seconds:.3f} s for the one at {start:.3f} s")
    picture: np.ndarray = frame.data.numpy()
    return picture


def _message(error: Exception) -> str:
    """The first line of an error of torchcodec, without the place in its source that it starts with."""
    line = (str(error).strip().splitlines() or [""])[0]
    return re.sub(r"^\w+, \S+:\d+, ", "", line)[:120] or type(error).__name__
