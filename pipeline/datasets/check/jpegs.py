"""JPEG files by their markers: decoders pass over damage, and give grey or shifted blocks."""

from __future__ import annotations

import re

from avpipe.pipeline.datasets.check.broken import Broken

_START, _SCAN, _END, _BASELINE = 0xD8, 0xDA, 0xD9, 0xC0
_BETWEEN_SCANS = frozenset({0xC4, _SCAN, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Markers that a picture of several scans may have between them."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""A marker within coded data; 0 after 0xff and restarts are part of them."""
_TRAILING_BYTES = 4096


def check_markers(data: bytes, pixels: int) -> None:
    """Walks through the markers of a JPEG file, a picture of so many pixels.

    Raises:
        Broken: (`truncated`) no end; (`damaged`) markers that cannot be where they are.
    """
    baseline, at = _to_scan(data)
    # A picture of one colour has at most two bits of zeros for a block of 64 pixels, three blocks for two.
    zeros = bytes(64 + pixels // 64)
    for marker in _MARKER.finditer(data, at):
        kind = marker[1][0]
        if kind == _END:
            if zeros in data[at : marker.end()]:
                raise Broken("damaged", "zeros in the middle of the JPEG")
            rest = len(data) - marker.end()
            if rest > _TRAILING_BYTES and data[marker.end() : marker.end() + 2] != bytes((0xFF, _START)):
                raise Broken("damaged", f"the JPEG ends {rest} bytes before the end of the file")
            return
        if baseline or kind not in _BETWEEN_SCANS:
            raise Broken("damaged", f"bytes that no JPEG has, at byte {marker.start()} of {len(data)}")
    raise Broken("truncated", "cut short: the JPEG has no end")


def _to_scan(data: bytes) -> tuple[bool, int]:
    """Whether the picture has one scan of the simple kind, and where its coded data begin."""
    baseline, at = False, 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise Broken("damaged", f"no JPEG marker at byte {at}")
        kind = data[at + 1]
        if kind == 0xFF:  # filling
            at += 1
            continue
        baseline = baseline or kind == _BASELINE
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if kind == _SCAN:
            return baseline and data.find(bytes((0xFF, _SCAN)), at) < 0, at
    raise Broken("truncated", "cut short: the JPEG has no picture")
