"""Audio at its own rate on the clip's clock: backends behind one small contract, found by name in `LISTENERS`.

decord's AudioReader is not among them, on purpose. It leaks, returns short audio without a sign, and in Matroska leaves
the codec's priming in, which puts sound 24 ms late while its length looks right.
"""

from __future__ import annotations

from avpipe.pipeline.media.listeners.contract import Heard, Listener
from avpipe.pipeline.media.listeners.numpy_listener import listen_numpy
from avpipe.pipeline.media.listeners.pyav_listener import listen_pyav
from avpipe.pipeline.media.listeners.soundfile_listener import listen_soundfile

LISTENERS: dict[str, Listener] = {"soundfile": listen_soundfile, "pyav": listen_pyav, "numpy": listen_numpy}

__all__ = ["LISTENERS", "Heard", "Listener"]
