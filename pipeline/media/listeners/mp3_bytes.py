"""What the bytes of an MP3 file tell: the checksum over its music, and whether its last frame is whole.

Most flipped bits in an MP3 frame decode to wrong sound without a complaint from any decoder. The tag that LAME and
FFmpeg put before the music holds its length and a checksum over all of it.
"""

from __future__ import annotations

import enum
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_TAG_BYTES = 36
"""From the start of the encoder's part of the tag to its end."""

_TAG_WITHIN = 200
"""In so many bytes of the first frame its name is found."""

_LANES = 1024


class Music(enum.Enum):
    """What an MP3 file says of its own music."""

    SOUND = "as it was encoded"
    DAMAGED = "not as it was encoded"
    UNKNOWN = "no checksum to compare with"


class _Tag(NamedTuple):
    frame: int  # where its frame starts in the file
    music_bytes: int  # from there to the end of the music
    music_crc: int


def music_of(path: Path) -> Music:
    """Compares the music of an MP3 file with the checksum in its tag.

    Args:
        path: any file.

    Returns:
        `UNKNOWN` for what is no MP3 file or has no such tag, for a file that is shorter than its tag says (the seconds
        that are there may be sound), and where a program has changed the volume inside the frames and has left a note
        on it (`MP3GAIN`), but not the checksum.
    """
    data = path.read_bytes()
    tag = _tag_of(data)
    if tag is None or tag.frame + tag.music_bytes > len(data):
        return Music.UNKNOWN
    end = tag.frame + tag.music_bytes
    first = tag.frame + _frame_bytes(data[tag.frame : tag.frame + 4])
    if crc16(data[first:end]) == tag.music_crc:
        return Music.SOUND
    follows = data[end : end + 4]  # what is not a tag there was appended, and the length is not the file's
    whole = not follows or follows[:3] == b"TAG" or follows in (b"APET", b"LYRI")
    return Music.DAMAGED if whole and b"MP3GAIN_" not in data[end:].upper() else Music.UNKNOWN


def seconds_before_cut(path: Path) -> float | None:
    """Seconds of sound before the frame that an MP3 file ends inside of.

    Returns:
        None where the file ends after a frame, where its frames do not follow each other from start to end, and where
        a tag says how long it should be, which its decoders know.
    """
    data = path.read_bytes()
    if _tag_of(data) is not None:
        return None
    place, seconds = _start(data), Fraction()
    while size := _frame_bytes(data[place : place + 4]):
        place += size
        if place > len(data):
            return float(seconds)
        seconds += _frame_seconds(data[place - size : place - size + 4])
    return None


def declares_length(path: Path) -> bool:
    """Whether an MP3 file says how many frames it has (`Xing`, `Info`, `VBRI`)."""
    with path.open("rb") as file:
        start = _start(file.read(10))
        file.seek(start)
        head = file.read(_TAG_WITHIN)
    return any(word in head for word in (b"Xing", b"Info", b"VBRI"))


def _start(data: bytes) -> int:
    """Where an ID3 tag at the start ends."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def _tag_of(data: bytes) -> _Tag | None:
    start = _start(data)
    name = max(data.find(word, start, start + _TAG_WITHIN) for word in (b"Xing", b"Info"))
    if name < 0 or not _frame_bytes(data[start : start + 4]):
        return None
    flags = int.from_bytes(data[name + 4 : name + 8])
    encoder = name + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    end = encoder + _TAG_BYTES
    music_bytes, music_crc = int.from_bytes(data[end - 8 : end - 4]), int.from_bytes(data[end - 4 : end - 2])
    if end > len(data) or not music_bytes:
        return None
    return _Tag(start, music_bytes, music_crc)


def _frame_bytes(header: bytes) -> int:
    """Length of the MPEG layer III frame with this header; 0 where it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, place = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or place in (0, 15):
        return 0
    bits_a_second = 1000 * (_FAST if version == 3 else _SLOW)[place - 1]
    return int(bits_a_second // 8 * _frame_seconds(header)) + (header[2] >> 1 & 1)


def _frame_seconds(header: bytes) -> Fraction:
    """Seconds of sound in a layer III frame with this header."""
    version, hertz = header[1] >> 3 & 3, (44_100, 48_000, 32_000)[header[2] >> 2 & 3]
    return Fraction(1152, hertz) if version == 3 else Fraction(576, hertz >> {2: 1, 0: 2}[version])


_FAST = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_SLOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Kilobits a second that a header can name: MPEG-1, and MPEG-2 and 2.5."""


def crc16(data: bytes) -> int:
    """CRC-16 with polynomial 0x8005, bits from the lowest, start 0: many stretches at once, then put together."""
    count = -(-len(data) // _LANES)
    lanes = np.frombuffer(bytes(count * _LANES - len(data)) + data, np.uint8).reshape(_LANES, count)  # [lane, byte]
    table = _table()
    state = np.zeros(_LANES, np.uint16)
    later = np.concatenate([np.arange(256), np.arange(256) << 8]).astype(np.uint16)  # what `count` bytes make of it
    for column in lanes.T:
        state = state >> 8 ^ table[(state ^ column) & 0xFF]
        later = later >> 8 ^ table[later & 0xFF]
    low, high = later[:256].tolist(), later[256:].tolist()
    total = 0
    for part in state.tolist():
        total = low[total & 0xFF] ^ high[total >> 8] ^ part
    return total


@cache
def _table() -> npt.NDArray[np.uint16]:
    table = np.arange(256)
    for _ in range(8):
        table = table >> 1 ^ (table & 1) * 0xA001
    return table.astype(np.uint16)
