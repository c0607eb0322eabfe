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
    return Frames(pictures, np.zeros(segments, dtype=bool), -1, "grey frames", f"{reason}: grey frames stand in")


def silence(segments: int, timeline: Timeline, reason: str) -> Sound:
    """Zeros for a clip without sound; the mask is False everywhere. Arguments as `blank_frames`."""
    samples = np.zeros((segments, timeline.samples_per_segment), dtype=np.int16)
    return Sound(samples, np.zeros(segments, dtype=bool), -1, "silence", f"{reason}: silence stands in")


def frames_at_end(found: Frames, policy: str, clip: str, segment_seconds: float) -> Frames:
    """The frames of a clip whose pictures may end early, by the policy for short clips; the note says what stands in.

    A frame that stands in behind the end is the last one already, so that `repeat` changes the mask alone.

    Args:
        found: frames, at least one of them real.
        policy: `mask`, `repeat` or `reject`.
        clip: its id, for the message.
        segment_seconds: length of a segment, for the message.

    Raises:
        InputRejected: (stage `frames`) they end early, and the policy is `reject`.
    """
    end = _end(found)
    _refuse_short(found.mask, end, policy, "frames", f"clip {clip!r}: its pictures end", segment_seconds)
    mask, notes = found.mask, [found.note]
    if policy == "repeat" and end < len(mask):
        mask = _filled(mask, end)
        notes.append(f"ends early: {len(mask) - end} x the last frame repeated")
    notes.append(_masked(mask, "no picture: the nearest frame stands in"))
    return replace(found, mask=mask, note="; ".join(filter(None, notes)))


def sound_at_end(found: Sound, policy: str, clip: str, segment_seconds: float) -> Sound:
    """The sound of a clip that may end early; as `frames_at_end`, stage `audio`.

    The last segment that counts as real is repeated, from its first sample to its last; where none counts, the last one
    that holds any sound.
    """
    end = _end(found)
    _refuse_short(found.mask, end, policy, "audio", f"clip {clip!r}: its sound ends", segment_seconds)
    samples, mask, notes = found.samples, found.mask, [found.note]
    if policy == "repeat" and end < len(mask):
        samples = samples.copy()
        samples[end:] = samples[end - 1 if mask.any() else end]
        mask = _filled(mask, end)
        notes.append(f"ends early: {len(mask) - end} x the last segment of sound repeated")
    notes.append(_masked(mask, "no sound in more than half of it: silence stands in"))
    return replace(found, samples=samples, mask=mask, note="; ".join(filter(None, notes)))


def _end(found: Frames | Sound) -> int:
    """The first segment that is to be filled: behind the last that counts as real; where none does, the one that holds
    what there is; T where nothing lacks."""
    real = np.flatnonzero(found.mask)
    return int(real[-1]) + 1 if len(real) else found.last


def _refuse_short(mask: np.ndarray, end: int, policy: str, stage: str, ends: str, segment_seconds: float) -> None:
    if policy != "reject" or end == len(mask):
        return
    told = f"{end * segment_seconds:g} of {len(mask) * segment_seconds:g} s ({end} of {len(mask)} segments)"
    if not mask.any():
        told = f"less than half a segment, of {len(mask)}"
    hint = "fetch all of it; a cache made with --short-clip mask takes it as it is"
    raise InputRejected(f"{ends} after {told}", stage=stage, hint=hint)


def _filled(mask: np.ndarray, end: int) -> np.ndarray:
    """The mask with everything from a segment on counted as real."""
    filled = mask.copy()
    filled[end:] = True
    return filled


def _masked(mask: np.ndarray, what: str) -> str:
    """How many segments are masked, and what is stored there; nothing where none is."""
    masked = len(mask) - int(mask.sum())
    return f"{masked} of {len(mask)} segments masked ({what})" if masked else ""
