"""What files of sound say of their own bytes: lengths and checksums that hold whichever decoder reads them."""

from __future__ import annotations

import zlib
from pathlib import Path

from avpipe.pipeline.media.listeners.contract import TOLERANCE_SECONDS
from avpipe.pipeline.media.listeners.mp3_bytes import Music, music_of, seconds_before_cut

_OGG_HEADER, _STREAM_BEGINS = 27, 2
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_UNKNOWN_BYTES = 0x7FFF0000
"""From this size on, a RIFF size is what programs write that do not know it yet."""


def broken_seal(path: Path, window_seconds: float) -> str:
    """Says what contradicts the bytes of a file of sound, as far as they matter to its first seconds.

    Looked at are the checksums and numbers of the pages of an Ogg file, the length of the samples in a wav file, and
    the last frame and, for the file as a whole, the checksum of an MP3 file.

    Args:
        path: any file.
        window_seconds: how much of it is wanted.

    Returns:
        What is wrong, "" where nothing is, or where the file is none of these.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"OggS":
        return _broken_page(path.read_bytes(), window_seconds)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _missing_samples(path, window_seconds)
    return _damaged_music(path, window_seconds) if start[:3] == b"ID3" or start[:1] == b"\xff" else ""


def _damaged_music(path: Path, window_seconds: float) -> str:
    if music_of(path) is Music.DAMAGED:
        return "the music does not match the checksum that its encoder wrote into the MP3 file"
    seconds = seconds_before_cut(path)
    return f"the MP3 file ends inside a frame, after {seconds:.2f} s" if seconds and seconds < window_seconds else ""


def _broken_page(data: bytes, window_seconds: float) -> str:
    """The first page of an Ogg file in the window that is damaged or lost. Junk between pages is passed over."""
    rates: dict[bytes, int] = {}  # by stream
    numbers: dict[bytes, int] = {}
    place = data.find(b"OggS")
    while place >= 0:
        page, stream = _page(data, place), data[place + 14 : place + 18]
        if not page:
            return f"the Ogg file is cut short in the page at byte {place}"
        if _page_crc(page) != int.from_bytes(page[22:26], "little"):
            return f"the Ogg page at byte {place} does not match its checksum"
        number = int.from_bytes(page[18:22], "little")
        if number != numbers.get(stream, number - 1) + 1 and not page[5] & _STREAM_BEGINS:
            return f"pages are missing before the Ogg page at byte {place}"
        numbers[stream] = number
        rate = rates.setdefault(stream, _ogg_rate(page))
        last_sample = int.from_bytes(page[6:14], "little", signed=True)
        if rate and last_sample > (window_seconds + TOLERANCE_SECONDS) * rate:
            break
        place = data.find(b"OggS", place + len(page))
    return ""


def _page(data: bytes, place: int) -> bytes:
    """The Ogg page that starts there; none where it goes beyond the end."""
    segments = data[place + 26 : place + 27]
    lengths = place + _OGG_HEADER
    end = lengths + segments[0] + sum(data[lengths : lengths + segments[0]]) if segments else len(data) + 1
    return data[place:end] if end <= len(data) else b""


def _page_crc(page: bytes) -> int:
    """CRC-32 of Ogg: bits from the highest, start 0. It is zlib's in a mirror."""
    blank = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(blank.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")


def _ogg_rate(page: bytes) -> int:
    """Samples a second that a stream's first page counts in; 0 where it is not known."""
    content = page[_OGG_HEADER + page[26] :]
    if content[:7] == b"\x01vorbis":
        return int.from_bytes(content[12:16], "little")
    return 48_000 if content[:8] == b"OpusHead" else 0


def _missing_samples(path: Path, window_seconds: float) -> str:
    """How much of the samples that a wav file declares is not there, where the window would hold some of it."""
    total = path.stat().st_size
    bytes_a_second = 0
    with path.open("rb") as file:
        place = 12
        while place + 8 <= total:
            file.seek(place)
            name, size = file.read(4), int.from_bytes(file.read(4), "little")
            if name == b"fmt ":
                bytes_a_second = int.from_bytes(file.read(12)[8:], "little")
            elif name == b"data" and bytes_a_second:
                there, declared = (total - place - 8) / bytes_a_second, size / bytes_a_second
                lacks = min(declared, window_seconds) - there > TOLERANCE_SECONDS
                return (
                    f"{there:.2f} s of {declared:.2f} s declared are there" if lacks and size < _UNKNOWN_BYTES else ""
                )
            place += 8 + size + size % 2
    return ""
