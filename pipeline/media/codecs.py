"""Which codecs a media file has, found out in a process that can be killed: a file may hang or crash FFmpeg.

`codec_pool` gives a pool, its `submit(clip)` a future, and `codecs_of` reads the future's result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec
from avpipe.pipeline.media.probe import probe
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Codecs:
    """What a file says it is, in FFmpeg's names.

    Attributes:
        container: names of the format; an mp4 has several.
        video: codec of the pictures, empty where there are none.
        audio: codec of the sound, empty where there is none.
    """

    container: tuple[str, ...]
    video: str
    audio: str


def codec_pool(deadline_seconds: float) -> DecodePool:
    """A pool of one process whose answers to clips are for `codecs_of`; a clip's future raises as in `DecodePool`.

    Args:
        deadline_seconds: time that a file may take.
    """
    return DecodePool(
        MediaSpec(Timeline(), None, audio=True), deadline_seconds=deadline_seconds, decode=probe_clip, content=False
    )


def probe_clip(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """What the pool's process runs: no content, and the codecs of the clip's video file as its provenance.

    Raises:
        InputRejected: (stage `probe`) there is no such file, or it cannot be opened.
    """
    began = time.perf_counter()
    if clip.video is None:
        raise InputRejected(f"clip {clip.id!r}: it has no video file", stage="probe")
    facts = probe(clip.video)
    video, audio = (stream.codec if stream else "" for stream in (facts.video, facts.audio))
    named = {"container": facts.container, "video": video, "audio": audio}
    return DecodedClip(None, None, {}, named, time.perf_counter() - began)


def codecs_of(probed: DecodedClip) -> Codecs:
    """The answer of a `codec_pool`."""
    named = probed.provenance
    return Codecs(tuple(named["container"].split(",")), named["video"], named["audio"])
