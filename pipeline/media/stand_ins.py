"""What stands in for media that are short or missing, as `policies.Policies` names it. Legend: T segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.frames import Frames
from avpipe.pipeline.media.sound import Sound
from avpipe.pipeline.timeline import Timeline

GREY = 128
"""Value of every pixel of a blank frame: near the mean of pictures, which backbones take for nothing."""


def blank_frames(segments: int, size: tuple[int, int], reason: str) -> Frames:
    """Grey pictures for a clip without any; the mask is False everywhere.

    Args:
        segments: T.
        size: (height, width).
        reason: why there are none, for the note.
    """
    pictures = np.full((segments, *size, 3), GREY, dtype=np.uint8)
    return Frames(pictures, np.zeros(segments, dtype=bool), "grey frames", f"{reason}: grey frames stand in")


def silence(segments: int, timeline: Timeline, reason: str) -> Sound:
    """Zeros for a clip without sound; the mask is False everywhere. Arguments as `blank_frames`."""
    samples = np.zeros((segments, timeline.samples_per_segment), dtype=np.int16)
    return Sound(samples, np.zeros(segments, dtype=bool), "silence", f"{reason}: silence stands in")


def frames_at_end(found: Frames, policy: str, clip: str, segment_seconds: float) -> Frames:
    """The frames of a clip whose pictures may end early, by the policy for short clips.

    A frame that stands in behind the end is the last one already, so that `repeat` changes the mask alone.

    Args:
        found: frames; a segment is short where the mask is False from it to the end.
        policy: `mask`, `repeat` or `reject`.
        clip: its id, for the message.
        segment_seconds: length of a segment, for the message.

    Raises:
        InputRejected: (stage `frames`) the policy is `reject`, or there is nothing to repeat.
    """
    short = _short(found.mask, policy, "frames", f"clip {clip!r}: its pictures end", segment_seconds)
    if not short:
        return found
    return replace(found, mask=_kept(found.mask, short), note=_noted(found.note, f"{short} x the last frame"))


def sound_at_end(found: Sound, policy: str, clip: str, segment_seconds: float) -> Sound:
    """The sound of a clip that may end early; as `frames_at_end`, stage `audio`. The last segment that counts as real
    is repeated, from its first sample to its last."""
    short = _short(found.mask, policy, "audio", f"clip {clip!r}: its sound ends", segment_seconds)
    if not short:
        return found
    samples = found.samples.copy()
    samples[-short:] = samples[-short - 1]
    note = _noted(found.note, f"{short} x the last segment of sound")
    return replace(found, samples=samples, mask=_kept(found.mask, short), note=note)


def _short(mask: np.ndarray, policy: str, stage: str, ends: str, segment_seconds: float) -> int:
    """How many segments at the end are to be filled: 0 where none lacks, or where the mask says it."""
    real = np.flatnonzero(mask)
    end = int(real[-1]) + 1 if len(real) else 0
    if policy == "mask" or end == len(mask):
        return 0
    if policy == "repeat" and end:
        return len(mask) - end
    lengths = f"{end * segment_seconds:g} of {len(mask) * segment_seconds:g} s ({end} of {len(mask)} segments)"
    hint = "fetch all of it; a cache made with --short-clip mask takes it as it is"
    raise InputRejected(f"{ends} after {lengths}", stage=stage, hint=hint)


def _kept(mask: np.ndarray, short: int) -> np.ndarray:
    kept = mask.copy()
    kept[-short:] = True
    return kept


def _noted(note: str, more: str) -> str:
    return "; ".join(filter(None, (note, f"ends early: {more} repeated")))
