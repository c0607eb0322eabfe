"""What a reader of video frames promises: frames by time stamp, or a word on why it cannot vouch for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts

# Matroska and FLV round time stamps to milliseconds: a frame wanted at its very start may be stamped that much later.
ROUNDING_SECONDS = 1e-3

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


def load(module: str, hint: str) -> Any:
    """Imports a decoder's module.

    Raises:
        EnvironmentLacking: it is not installed here, or does not load.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: torchcodec without FFmpeg
        reason = next(iter(str(error).splitlines()), "")
        raise EnvironmentLacking(f"decoder {module!r} cannot be imported: {reason} ({hint})") from error


def refuse_edit(video: VideoFacts, decoder: str) -> None:
    """Raises `CannotVouch` for an edit list that begins between two frames: only `pyav` is told to look past it."""
    if video.edit is not None:
        raise CannotVouch(f"{decoder} moves the frames of an edit list that begins between two of them")


def typical_step(starts: np.ndarray, video: VideoFacts) -> float:
    """Seconds that a frame is shown for, the median; what the container declares where there is one frame alone."""
    if len(starts) > 1:
        return float(np.median(np.diff(starts)))
    return video.frame_seconds or 0.04
