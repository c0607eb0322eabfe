"""What the packets of a transport stream (MPEG-TS) tell: whether some of a track are lost."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.media.container import open_media

_SYNC = 0x47
_SIZES = (188, 192, 204)
"""Bytes from one packet to the next: bare, with a clock before each, with a checksum behind each."""
_ROW = 4
_HAS_CONTENT, _HAS_MORE = 1, 2


def loses_packets(path: Path, index: int) -> bool:
    """Whether packets of a track are missing, anywhere in the file: their numbers (4 bits) do not follow each other.

    A gap in the time stamps alone is no sign of that: live streams have them, and their packets are all there.

    Args:
        path: a transport stream.
        index: number of the track in FFmpeg's order.
    """
    with open_media(path) as container:
        track: int = container.streams[index].id
    data = path.read_bytes()
    size = max(_SIZES, key=lambda it: _aligned(data, it))
    place, last = _first_packet(data, size), -1
    while 0 <= place <= len(data) - 188:
        if data[place] != _SYNC:
            return True  # bytes are lost or wrong, whichever track's they were
        header = data[place : place + 6]
        content = header[3] >> 4 & 3
        if (header[1] & 0x1F) << 8 | header[2] == track and content & _HAS_CONTENT:
            restarts = content & _HAS_MORE and header[4] and header[5] & 0x80
            number = header[3] & 0xF
            if last >= 0 and not restarts and number not in (last, last + 1 & 0xF):  # a packet may be sent twice
                return True
            last = number
        place += size
    return False


def _aligned(data: bytes, size: int) -> int:
    """How many of the first packets of this size begin as packets do."""
    place = _first_packet(data, size)
    return data[place : place + 50 * size : size].count(_SYNC) if place >= 0 else 0


def _first_packet(data: bytes, size: int) -> int:
    """Where the first few packets in a row begin; -1 where there are none."""
    place = data.find(_SYNC)
    while place >= 0 and data[place : place + _ROW * size : size] != bytes([_SYNC]) * _ROW:
        place = data.find(_SYNC, place + 1)
    return place
