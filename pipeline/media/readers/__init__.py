"""Video frames at given times: backends behind one small contract, found by name in `READERS`.

A reader shows, for each wanted time, the frame whose presentation interval holds it, by the time stamps of the frames
and never by counting. Every backend turns the picture as the container's rotation says, in quarter turns; a mirror
image in the display matrix is not undone.
"""

from __future__ import annotations

from avpipe.pipeline.media.readers.contract import Reader, Shown, load
from avpipe.pipeline.media.readers.decord_reader import read_decord
from avpipe.pipeline.media.readers.pyav_reader import read_pyav
from avpipe.pipeline.media.readers.torchcodec_reader import read_torchcodec

READERS: dict[str, Reader] = {"decord": read_decord, "pyav": read_pyav, "torchcodec": read_torchcodec}

__all__ = ["READERS", "Reader", "Shown", "load"]
