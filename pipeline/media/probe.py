"""What a container says about itself, read without decoding: streams, times, sizes.

Rotation is not among the facts: FFmpeg reveals it only with a decoded frame. The frame readers apply it (`readers/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.edits import Edit, edit_between_frames
from avpipe.pipeline.media.files import check_file, recognised

BROADCAST = ("mpegts", "mpeg")
"""Containers (transport and program streams) whose length FFmpeg guesses, and whose clock may jump: where recordings
were joined, say. Their standard wants a time stamp every 0.7 s."""
JUMP_SECONDS = 10.0
"""A step of their time stamps beyond this is no pause but a jump."""


class CannotVouch(Exception):
    """A backend failed, or its output disagrees with what the container declares. Another backend may do better."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The video stream that is used: the one FFmpeg ranks best, cover pictures left out.

    Attributes:
        index: number of the stream in the container.
        codec: FFmpeg's name of its codec.
        width: pixels, before rotation.
        height: pixels, before rotation.
        start_seconds: first presentation time on the container's clock.
        end_seconds: declared end on the container's clock; None where the container does not declare it.
        frame_seconds: one over the average rate, a rough guide only; None where it is unknown.
        edit: the edit list, where it begins between two frames; None otherwise.
    """

    index: int
    codec: str
    width: int
    height: int
    start_seconds: float
    end_seconds: float | None
    frame_seconds: float | None
    edit: Edit | None = None


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """The audio stream that is used: the one FFmpeg ranks best.

    Attributes:
        index: number of the stream in the container.
        codec: FFmpeg's name of its codec.
        sample_rate: samples per second.
        channels: number of channels.
        start_seconds: first presentation time on the container's clock.
        end_seconds: declared end on the container's clock; None where the container does not declare it.
    """

    index: int
    codec: str
    sample_rate: int
    channels: int
    start_seconds: float
    end_seconds: float | None


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a container declares.

    Attributes:
        path: the file, absolute.
        container: FFmpeg's name of the format.
        duration_seconds: length of the whole, None where it is not declared.
        video: the video stream, None where there is none.
        audio: the audio stream, None where there is none.
        unread: of `video` and `audio`, those that are None although the container has such a stream: its codec is not
            known here, or its parameters are lost.
    """

    path: Path
    container: str
    duration_seconds: float | None
    video: VideoFacts | None
    audio: AudioFacts | None
    unread: tuple[str, ...] = ()

    @property
    def origin_seconds(self) -> float:
        """Where second 0 of the clip lies on the container's clock.

        It is the earliest start of the two streams, so that a transport stream whose clock starts at an arbitrary
        value still starts at second 0, and a late stream stays late against the other one. A start before zero does
        not count: what lies there is codec priming, or was cut off by an edit list, and is not meant to be presented.
        """
        starts = [stream.start_seconds for stream in (self.video, self.audio) if stream is not None]
        return max(0.0, min(starts, default=0.0))


def probe(path: Path) -> MediaFacts:
    """Reads what a container declares about its best video stream and its best audio stream.

    Args:
        path: a media file.

    Returns:
        The facts; `video` or `audio` is None where the container lacks such a stream, but not both.

    Raises:
        InputRejected: (stage `probe`) not media of a kind that is opened (`container.py`), or neither video nor
            audio in it; also as `check_file`.
    """
    import av

    path = check_file(path, "probe")
    try:
        with open_media(path) as container:
            facts = facts_of(path, container)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        if (known := recognised(path)) is not None:
            raise InputRejected(f"{path}: {known[0]}", stage="probe", hint=known[1]) from error
        reason = f"{path}: FFmpeg cannot open it as media ({getattr(error, 'strerror', None) or error})"
        if isinstance(error, av.error.ArgumentError):  # all that FFmpeg says of a format that is not let in
            reason += ", or it is of a kind that is not opened, such as a playlist"
        raise InputRejected(reason, stage="probe", hint="damaged or cut short? fetch it again") from error
    if facts.video is None and facts.audio is None:
        reason = f"{path}: neither a video nor an audio track ({facts.container})"
        raise InputRejected(reason, stage="probe", hint="subtitles alone? fetch the video, or leave the clip out")
    return facts


def facts_of(path: Path, container: Any) -> MediaFacts:
    """The facts about an open PyAV container, which may have neither a video nor an audio stream."""
    import av

    best = (container.streams.best(kind) for kind in ("video", "audio"))
    # A stream that was cut before anything told its codec has no context, and nothing can be read of it.
    video, audio = (None if stream is None or stream.codec_context is None else stream for stream in best)
    if video is not None and video.disposition & av.stream.Disposition.attached_pic:
        video = None  # the cover picture of a song
    there = {each.type for each in container.streams if not each.disposition & av.stream.Disposition.attached_pic}
    unread = tuple(kind for kind, used in (("video", video), ("audio", audio)) if used is None and kind in there)
    duration = None if container.duration is None else container.duration / av.time_base
    alone = duration if video is None or audio is None else None  # then the container's length is the stream's
    return MediaFacts(
        path=path,
        container=container.format.name,
        duration_seconds=duration,
        video=None if video is None else _video(path, video, container.format.name, alone),
        audio=None if audio is None else _audio(audio, container.format.name, alone),
        unread=unread,
    )


def _video(path: Path, stream: Any, container: str, alone_seconds: float | None) -> VideoFacts:
    context, rate = stream.codec_context, stream.average_rate
    start, end = _times(stream, alone_seconds)
    frame_seconds = float(1 / rate) if rate else None
    if container == "avi" and end is not None and frame_seconds is not None:
        end = max(end, start + stream.frames * frame_seconds)  # FFmpeg shortens the duration of a file that was cut
    edit = edit_between_frames(path, stream) if container.startswith("mov,") else None
    if edit is not None:
        start, end = edit.begin_seconds, edit.end_seconds
    return VideoFacts(stream.index, context.name, context.width, context.height, start, end, frame_seconds, edit)


def _audio(stream: Any, container: str, alone_seconds: float | None) -> AudioFacts:
    context = stream.codec_context
    start, end = _times(stream, alone_seconds)
    if container == "avi" and end is not None:
        end = max(end, start + float(stream.frames * stream.time_base))  # as for the video
    return AudioFacts(stream.index, context.name, context.sample_rate, context.layout.nb_channels, start, end)


def _times(stream: Any, alone_seconds: float | None) -> tuple[float, float | None]:
    """Start and declared end of a stream on the container's clock."""
    start = float((stream.start_time or 0) * stream.time_base)
    if stream.duration:
        return start, start + float(stream.duration * stream.time_base)
    tagged = _tagged_end(stream.metadata)
    return start, tagged if tagged is not None or alone_seconds is None else start + alone_seconds


def _tagged_end(metadata: dict[str, str]) -> float | None:
    """The end of a Matroska stream (`DURATION` tag, `00:00:10.333000000`): the format has no field for it."""
    for key, value in metadata.items():
        if key.upper().startswith("DURATION"):
            try:
                hours, minutes, seconds = value.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            except ValueError:
                continue
    return None
