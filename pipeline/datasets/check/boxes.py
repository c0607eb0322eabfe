"""The boxes of an mp4 or mov file, by their sizes alone: whether the file is all there.

FFmpeg opens a file that was cut short without complaint where the index (`moov`) comes first, so this looks before it.
"""

from __future__ import annotations

import os
from pathlib import Path

from avpipe.pipeline.datasets.check.broken import Broken

_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_HEADER_BYTES = 16
_MOST_BOXES = 100_000
"""A file of more boxes, a fragmented one of many hours say, is left to FFmpeg."""


def check_boxes(path: Path) -> None:
    """Walks the boxes of the outermost level; does nothing where the file is of another kind.

    Raises:
        Broken: (`truncated`) a box reaches past the end of the file, or there is no `moov`; (`damaged`) a box of no
            valid size, or bytes that are no box.
    """
    names: list[bytes] = []
    with path.open("rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end and len(names) < _MOST_BOXES:
            file.seek(at)
            header = file.read(_HEADER_BYTES)
            name, size = header[4:8], int.from_bytes(header[:4])
            if not names and name not in _FIRST:
                return
            if len(header) < 8 or (size == 1 and len(header) < 16):
                raise Broken("truncated", f"cut short: it ends {end - at} bytes into a box header")
            if size == 1:
                size = int.from_bytes(header[8:16])
            elif size == 0 and name.strip(b"\0"):  # up to the end of the file
                size = end - at
            if not all(32 <= c < 127 or c == 0xA9 for c in name):
                rest = "zeros" if not header.strip(b"\0") else "no box"
                raise Broken("truncated" if rest == "zeros" else "damaged", f"{rest} from byte {at} of {end} on")
            label = name.decode("latin-1")
            if size < 8:
                raise Broken("damaged", f"box {label!r} at byte {at} of size {size}")
            if at + size > end:
                raise Broken("truncated", f"cut short: {label!r} goes to byte {at + size}, the file ends at {end}")
            names.append(name)
            at += size
    if b"moov" not in names:
        raise Broken("truncated", "no index (moov box missing): the recording or download did not finish")
