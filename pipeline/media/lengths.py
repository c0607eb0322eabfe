"""How long media files say they are, asked of processes that can be killed: a file may hang or crash a decoder.

Headers are read, nothing is decoded. A file whose header does not know (a stream that was recorded live), or whose
format has FFmpeg guess (MPEG transport and program streams), is read through for its time stamps.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec
from avpipe.pipeline.media.files import check_file
from avpipe.pipeline.media.probe import BROADCAST, JUMP_SECONDS, AudioFacts, VideoFacts, probe
from avpipe.pipeline.media.readers import load
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.media.signs import native_lines
from avpipe.pipeline.timeline import Timeline

DEADLINE_SECONDS = 10.0
"""What one file may take."""
SILENT = "length"
"""Stage of the InputRejected of a file that can be opened and does not say how long it is."""
_FILES_A_PROCESS = 200
"""Below as many files a further process costs more than it brings."""
_MOST_PROCESSES = 8


def lengths(clips: Sequence[Clip]) -> dict[str, float | InputRejected]:
    """Seconds of each clip's video, or of its audio file where it has none, by clip; or why they are not known.

    Args:
        clips: each with a video or an audio file.

    Raises:
        EnvironmentLacking: no process can be started here.
    """
    if not clips:
        return {}
    processes = min(_MOST_PROCESSES, os.cpu_count() or 1, -(-len(clips) // _FILES_A_PROCESS))
    spec = MediaSpec(Timeline(), None, audio=True)
    found: dict[str, float | InputRejected] = {}
    with (
        progress.task("measure", len(clips), "clips") as shown,
        DecodePool(
            spec, workers=processes, deadline_seconds=DEADLINE_SECONDS, decode=measure_clip, content=False
        ) as pool,
    ):
        for clip, future in [(clip, pool.submit(clip)) for clip in clips]:
            try:
                found[clip.id] = float(future.result().provenance["seconds"])
            except InputRejected as error:
                found[clip.id] = error
            shown.advance()
    return found


def measure_clip(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """What the pool's processes run: no content, and the length as provenance `seconds`.

    Raises:
        InputRejected: the file cannot be opened (stage `probe`), or does not say how long it is (`SILENT`).
    """
    began = time.perf_counter()
    path = clip.video or clip.audio
    if path is None:
        raise InputRejected(f"clip {clip.id!r}: neither a video nor an audio file", stage="probe")
    seconds = _audio_seconds(path) if clip.video is None else None
    if seconds is None:
        seconds = _container_seconds(path)
    if not 0 < seconds < float("inf"):
        raise InputRejected(f"{path}: it does not say how long it is", stage=SILENT, hint="encode it again")
    return DecodedClip(None, None, {}, {"seconds": repr(seconds)}, time.perf_counter() - began)


def _audio_seconds(path: Path) -> float | None:
    """Seconds by libsndfile, None where that does not know the format."""
    soundfile = load("soundfile", "pip install soundfile")
    try:
        with native_lines():  # mpg123 prints what it thinks of a file
            info = soundfile.info(check_file(path, "probe"))
    except (soundfile.SoundFileError, OSError):
        return None
    return float(info.frames / info.samplerate)


def _container_seconds(path: Path) -> float:
    """Seconds from the start of the clip to the end of its video, or of its sound where it has no video; 0: unknown."""
    facts = probe(path)
    stream = facts.video or facts.audio
    end = stream.end_seconds if stream else None
    if end is None:
        end = facts.duration_seconds and facts.duration_seconds + facts.origin_seconds
    if stream and (end is None or facts.container in BROADCAST):
        end = _last_stamp(path, stream)
    return end - facts.origin_seconds if end else 0.0


def _last_stamp(path: Path, used: VideoFacts | AudioFacts) -> float | None:
    """End of the last packet of a stream, seconds on the container's clock; None where packets have no time stamps.

    Raises:
        InputRejected: (stage `probe`) the clock jumps.
    """
    import av

    end: float | None = None
    with open_media(path) as container, contextlib.suppress(av.error.FFmpegError):  # cut short: as long as it is
        stream: Any = container.streams[used.index]
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            start = float(packet.pts * packet.time_base)
            if end is not None and abs(start - end) > JUMP_SECONDS and container.format.name in BROADCAST:
                reason = f"{path}: its time stamps jump from {end:.2f} s to {start:.2f} s"
                raise InputRejected(reason, stage="probe", hint="cut it in two there, or encode it again")
            end = max(end or 0.0, start + float((packet.duration or 0) * packet.time_base))
    return end
