"""Frames of MPEG layer III: how long they are, and how loud."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

_MPEG1, _MONO = 3, 3


def frame_bytes(header: bytes) -> int:
    """Length of the MPEG layer III frame with this header; 0 where it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, place = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or place in (0, 15):
        return 0
    bits_a_second = 1000 * (_FAST if version == _MPEG1 else _SLOW)[place - 1]
    return int(bits_a_second // 8 * frame_seconds(header)) + (header[2] >> 1 & 1)


def frame_seconds(header: bytes) -> Fraction:
    """Seconds of sound in a layer III frame with this header."""
    version, hertz = header[1] >> 3 & 3, (44_100, 48_000, 32_000)[header[2] >> 2 & 3]
    return Fraction(1152, hertz) if version == _MPEG1 else Fraction(576, hertz >> {2: 1, 0: 2}[version])


_FAST = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_SLOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Kilobits a second that a header can name: MPEG-1, and MPEG-2 and 2.5."""


def gain_places(data: bytes) -> npt.NDArray[np.int64]:
    """Bit at which each gain (8 bits, one for each granule and channel) starts, in frames that follow each other."""
    return np.array([place for start in _starts(data) for place in _gains(start, data[start : start + 4])], np.int64)


def turned_down(data: bytes, gains: npt.NDArray[np.int64], steps: int) -> bytes:
    """The frames with each gain lowered by so many steps of 1.5 dB; a gain of 0 stays, as programs leave it.

    Args:
        data: frames that follow each other.
        gains: as by `gain_places`.
        steps: negative to raise it.
    """
    stored = np.frombuffer(data, np.uint8).astype(np.int64)
    at, shift = gains // 8, 8 - gains % 8
    pairs = stored[at] << 8 | stored[at + 1]
    before = pairs >> shift & 0xFF
    after = np.where(before > 0, np.clip(before - steps, 0, 0xFF), 0)
    pairs += after - before << shift
    stored[at], stored[at + 1] = pairs >> 8, pairs & 0xFF
    return stored.astype(np.uint8).tobytes()


def _starts(data: bytes) -> Iterator[int]:
    place = 0
    while (size := frame_bytes(data[place : place + 4])) and place + size <= len(data):
        yield place
        place += size


def _gains(start: int, header: bytes) -> range:
    """The bits of a frame where its gains start."""
    first, mono = header[1] >> 3 & 3 == _MPEG1, header[3] >> 6 == _MONO
    content = start + 4 + (0 if header[1] & 1 else 2)
    if first:
        head, each, count = (18 if mono else 20), 59, (2 if mono else 4)
    else:
        head, each, count = (9 if mono else 10), 63, (1 if mono else 2)
    begin = 8 * content + head + 21
    return range(begin, begin + each * count, each)
