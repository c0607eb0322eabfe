"""What the bytes of an MP3 file tell: the checksum over its music, and whether its last frame is whole.

Most flipped bits in an MP3 frame decode to wrong sound without a complaint from any decoder. The tag that LAME and
FFmpeg put before the music holds its length and a checksum over all of it.
"""

from __future__ import annotations

import enum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from avpipe.pipeline.media.listeners.crc16 import crc16
from avpipe.pipeline.media.listeners.mp3_frames import frame_bytes, frame_seconds, gain_places, turned_down

_TAG_BYTES = 36
"""From the start of the encoder's part of the tag to its end."""

_TAG_WITHIN = 200
"""In so many bytes of the first frame its name is found."""

_STEPS = [sign * steps for steps in range(1, 17) for sign in (1, -1)]
"""By how much a program is thought to have changed the volume (1.5 dB a step)."""


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
        `SOUND` also where a program has changed the gain in all frames by the same number of steps, but not the
        checksum. `UNKNOWN` for what is no MP3 file or has no such tag, for a file that is shorter than its tag says
        (the seconds that are there may be sound), and where such a program left a note (`MP3GAIN`) and did otherwise.
    """
    data = path.read_bytes()
    tag = _tag_of(data)
    if tag is None or tag.frame + tag.music_bytes > len(data):
        return Music.UNKNOWN
    end = tag.frame + tag.music_bytes
    first = tag.frame + frame_bytes(data[tag.frame : tag.frame + 4])
    music = data[first:end]
    if crc16(music) == tag.music_crc:
        return Music.SOUND
    follows = data[end : end + 4]  # what is not a tag there was appended, and the length is not the file's
    whole = not follows or follows[:3] == b"TAG" or follows in (b"APET", b"LYRI")
    if not whole:
        return Music.UNKNOWN
    gains = gain_places(music)
    if any(crc16(turned_down(music, gains, steps)) == tag.music_crc for steps in _STEPS):
        return Music.SOUND
    noted = any(b"MP3GAIN_" in tags.upper() for tags in (data[: tag.frame], data[end:]))
    return Music.UNKNOWN if noted else Music.DAMAGED


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
    while size := frame_bytes(data[place : place + 4]):
        place += size
        if place > len(data):
            return float(seconds)
        seconds += frame_seconds(data[place - size : place - size + 4])
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
    if name < 0 or not frame_bytes(data[start : start + 4]):
        return None
    flags = int.from_bytes(data[name + 4 : name + 8])
    encoder = name + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    end = encoder + _TAG_BYTES
    music_bytes, music_crc = int.from_bytes(data[end - 8 : end - 4]), int.from_bytes(data[end - 4 : end - 2])
    if end > len(data) or not music_bytes:
        return None
    return _Tag(start, music_bytes, music_crc)
