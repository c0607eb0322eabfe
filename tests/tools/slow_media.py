"""Decoders that wait, as for a slow disk: they take time and no processor, for tests of overlap and deadlines."""

from __future__ import annotations

import time

from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec, decode_clip
from avpipe.pipeline.media.lengths import measure_clip

SECONDS = 0.3


def decode_slowly(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """Decodes a clip, `SECONDS` late."""
    time.sleep(SECONDS)
    return decode_clip(clip, spec)


def measure_or_hang(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """Measures a clip; the one called `hangs` never ends."""
    if clip.id == "hangs":
        time.sleep(1000)
    return measure_clip(clip, spec)


def decode_every_other(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """Decodes clips whose id ends in an even digit; others never end."""
    if int(clip.id[-1]) % 2:
        time.sleep(1000)
    return decode_clip(clip, spec)
