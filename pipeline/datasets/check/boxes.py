"""The boxes of an mp4 or mov file, by their sizes alone: whether the file is all there.

FFmpeg opens a file that was cut short without complaint where the index (`moov`) comes first, so this looks before it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from avpipe.pipeline.datasets.check.broken import Broken

_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_PARTS = (b"moov", b"moof", b"mfra", b"sidx", b"meta")
"""Boxes that are part of the index: one that is cut short is never mere padding."""
_HEADER_BYTES = 16
_MOST_BOXES = 100_000
"""A file of more boxes, a fragmented one of many hours say, is left to FFmpeg."""


class Odd(NamedTuple):
    """Something behind the index (`moov`) that is no whole box.

    Attributes:
        what: what it is, in words, in case that nothing is missing.
        broken: what is wrong with the file in case that something is.
        whole_bytes: samples that end up to this byte are there.
    """

    what: str
    broken: Broken
    whole_bytes: int


def check_boxes(path: Path) -> Odd | None:
    """Walks the boxes of the outermost level; does nothing where the file is of another kind.

    Returns:
        What is odd; the samples in the index tell whether anything of them is missing. None where nothing is.

    Raises:
        Broken: (`truncated`) a box reaches past the end of the file before or in the index, or there is no `moov`;
            (`damaged`) a box of no valid size, or bytes that are no box, before the index.
    """
    names: list[bytes] = []
    with path.open("rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end and len(names) < _MOST_BOXES:
            file.seek(at)
            header = file.read(_HEADER_BYTES)
            name = header[4:8]
            if not names and name not in _FIRST:
                return None
            try:
                size = _size(header, at, end)
            except Broken as broken:
                if b"moov" not in names or name in _PARTS:
                    raise
                if name == b"mdat":
                    return Odd("its box 'mdat' is said to be longer than the file", broken, end)
                return Odd(f"its last {end - at} bytes are no part of it", broken, at)
            names.append(name)
            at += size
    if b"moov" not in names:
        raise Broken("truncated", "no index (moov box missing): the recording or download did not finish")
    return None


def _size(header: bytes, at: int, end: int) -> int:
    """Bytes of a box; raises Broken where it is none, or not all there."""
    name, size = header[4:8], int.from_bytes(header[:4])
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
    return size
