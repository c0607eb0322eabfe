"""A decoder that waits, as one does for a slow disk: it takes time and no processor, so tests can measure overlap."""

from __future__ import annotations

import time

from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec, decode_clip

SECONDS = 0.3


def decode_slowly(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """Decodes a clip, `SECONDS` late."""
    time.sleep(SECONDS)
    return decode_clip(clip, spec)
