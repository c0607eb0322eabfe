"""One clip from its files to arrays on the clip's clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avpipe.pipeline.errors import InputRejected, UsageError, unknown_name
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.checksums import checked
from avpipe.pipeline.media.frames import Frames, image_frames, video_frames
from avpipe.pipeline.media.policies import Policies
from avpipe.pipeline.media.probe import MediaFacts, probe
from avpipe.pipeline.media.readers import READERS
from avpipe.pipeline.media.sound import Sound, file_sound, track_sound
from avpipe.pipeline.media.stand_ins import blank_frames, frames_at_end, silence, sound_at_end
from avpipe.pipeline.timeline import Timeline

_UNREAD = "its {} track cannot be read: its codec is not known here, or its header is damaged"


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """What is wanted from every clip.

    Attributes:
        timeline: the clock.
        frame_size: (height, width) of the stored frames in pixels; None where frames are not wanted.
        audio: whether samples are wanted.
        decoder: backend for video frames, a name in `readers.READERS`.
        policies: what is done where media are short or missing.

    Raises:
        UsageError: an unknown decoder, a frame size below one pixel, or nothing wanted.
    """

    timeline: Timeline
    frame_size: tuple[int, int] | None
    audio: bool
    decoder: str = "decord"
    policies: Policies = field(default_factory=Policies)

    def __post_init__(self) -> None:
        if self.decoder not in READERS:
            raise unknown_name("decoder", self.decoder, READERS)
        if self.frame_size is not None and min(self.frame_size) < 1:
            raise UsageError(f"frame size {self.frame_size}: height and width must be at least 1 pixel")
        if self.frame_size is None and not self.audio:
            raise UsageError("neither frames nor audio is wanted: choose at least one")

    def fields(self) -> dict[str, dict[str, Any]]:
        """What enters the fingerprints: keys `visual` and `audio`, for what is wanted.

        Each holds the policies by name and the part of the timeline that matters to it, so that another sample rate
        leaves the visual half of a cache valid. The decoder is not here: it is provenance of each clip.
        """
        clock = self.timeline
        fields: dict[str, dict[str, Any]] = {}
        if self.frame_size is not None:
            fields["visual"] = {
                "frame_size": list(self.frame_size),
                "segment_seconds": clock.segment_seconds,
                "frame_position": clock.frame_position,
                "resize": "squash-bicubic",
                "rotation": "applied",
                **self.policies.fields("visual"),
            }
        if self.audio:
            fields["audio"] = {
                "segment_seconds": clock.segment_seconds,
                "sample_rate": clock.sample_rate,
                "mono": "mean",
                "resample": "swresample",
                **self.policies.fields("audio"),
            }
        return fields


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """A clip as arrays.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB; None where not wanted.
        samples: int16 [T, S] mono; None where not wanted.
        masks: `visual` and `audio`, bool [T] each, for what was wanted; False where a stand-in or silence is stored.
        provenance: which decoder gave `frames` and `audio`, with its version; `frames_note` and `audio_note` say why
            a backend asked before was not believed, and what stands in for media that are short or missing; `sha256`
            says which of `frames`, `audio` and `video` were compared with a checksum.
        seconds: time spent on decoding.
    """

    frames: np.ndarray | None
    samples: np.ndarray | None
    masks: dict[str, np.ndarray]
    provenance: dict[str, str]
    seconds: float


def decode_clip(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """Decodes one clip in this process. Strange files can crash or hang a decoder: see `sandbox.DecodePool`.

    Args:
        clip: where its media are, and T, its number of segments.
        spec: what is wanted.

    Raises:
        InputRejected: the clip cannot be used, or is not what its checksum says; `stage` is `probe`, `frames` or
            `audio`.
        EnvironmentLacking: a decoder is not installed.
    """
    began = time.perf_counter()
    masks: dict[str, np.ndarray] = {}
    provenance = checked(clip, frames=spec.frame_size is not None, audio=spec.audio)
    facts = _facts(clip, spec)
    frames = None if spec.frame_size is None else _frames(clip, spec, spec.frame_size, facts)
    sound = _sound(clip, spec, facts) if spec.audio else None
    for key, modality, part in (("frames", "visual", frames), ("audio", "audio", sound)):
        if part is not None:
            masks[modality] = part.mask
            provenance[key] = part.backend
            if part.note:
                provenance[f"{key}_note"] = part.note
    return DecodedClip(
        frames=None if frames is None else frames.pictures,
        samples=None if sound is None else sound.samples,
        masks=masks,
        provenance=provenance,
        seconds=time.perf_counter() - began,
    )


def _facts(clip: Clip, spec: MediaSpec) -> MediaFacts | None:
    needed = (spec.frame_size is not None and clip.frames is None) or (spec.audio and clip.audio is None)
    return probe(clip.video) if needed and clip.video is not None else None


def _frames(clip: Clip, spec: MediaSpec, size: tuple[int, int], facts: MediaFacts | None) -> Frames:
    if clip.frames is not None:
        found = image_frames(clip.frames, clip.segments, size=size)
    elif facts is None and clip.audio is None:
        raise InputRejected(f"clip {clip.id!r}: it has neither a video nor frame images", stage="frames")
    elif facts is not None and "video" in facts.unread:
        raise InputRejected(f"{facts.path}: {_UNREAD.format('video')}", stage="frames", hint="encode it again")
    elif (facts is None or facts.video is None) and spec.policies.missing_video == "blank":
        return blank_frames(clip.segments, size, _lacking(facts, "video"))
    elif facts is None:
        hint = "name its pictures, take sound alone (--modality audio), or let grey frames stand in (--missing-video)"
        raise InputRejected(f"clip {clip.id!r}: it has sound alone", stage="frames", hint=hint)
    else:
        found = video_frames(facts, spec.timeline, clip.segments, size=size, decoder=spec.decoder)
    if not found.mask.any() and found.last < 0:
        reason = _nothing(clip, spec, "picture")
        if spec.policies.missing_video == "blank":
            return blank_frames(clip.segments, size, reason)
        hint = "take sound alone (--modality audio), or let grey frames stand in (--missing-video)"
        raise InputRejected(f"{clip.video}: {reason}", stage="frames", hint=hint)
    return frames_at_end(found, spec.policies.short_clip, clip.id, spec.timeline.segment_seconds)


def _sound(clip: Clip, spec: MediaSpec, facts: MediaFacts | None) -> Sound:
    if clip.audio is not None:
        found = file_sound(clip.audio, spec.timeline, clip.segments)
    elif facts is None and clip.frames is None:
        raise InputRejected(f"clip {clip.id!r}: it has neither a video nor an audio file", stage="audio")
    elif facts is not None and "audio" in facts.unread:
        raise InputRejected(f"{facts.path}: {_UNREAD.format('audio')}", stage="audio", hint="encode it again")
    elif (facts is None or facts.audio is None) and spec.policies.missing_audio == "silence":
        return silence(clip.segments, spec.timeline, _lacking(facts, "audio"))
    elif facts is None:
        hint = "name its sound, take pictures alone (--modality visual), or let silence stand in (--missing-audio)"
        raise InputRejected(f"clip {clip.id!r}: it has pictures alone", stage="audio", hint=hint)
    else:
        found = track_sound(facts, spec.timeline, clip.segments)
    if found.last < 0:
        reason = _nothing(clip, spec, "sound")
        if spec.policies.missing_audio == "silence":
            return silence(clip.segments, spec.timeline, reason)
        hint = "take pictures alone (--modality visual), or let silence stand in (--missing-audio)"
        raise InputRejected(f"{clip.audio or clip.video}: {reason}", stage="audio", hint=hint)
    return sound_at_end(found, spec.policies.short_clip, clip.id, spec.timeline.segment_seconds)


def _nothing(clip: Clip, spec: MediaSpec, what: str) -> str:
    return f"no {what} in the {clip.segments * spec.timeline.segment_seconds:g} s of the clip"


def _lacking(facts: MediaFacts | None, track: str) -> str:
    return f"no {track} file" if facts is None else f"no {track} track"


def signature(clip: Clip) -> str:
    """Sizes and modification times of the clip's files, to notice that they changed; reads no content.

    Returns:
        `<bytes>:<nanoseconds>` for each of `clip.media()`, joined by commas; an empty part for a missing file.
    """
    parts: list[str] = []
    for path in clip.media():
        try:
            status = path.stat()
        except OSError:
            parts.append("")
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}")
    return ",".join(parts)
