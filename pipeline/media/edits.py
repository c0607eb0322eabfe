"""Edit lists of mp4 and mov that begin between two frames.

An edit list says which stretch of the media is presented. Where it begins while a picture is already being shown,
FFmpeg leaves that picture out and moves the next one to the beginning: everything is seen too early, by up to the
length of a frame, while the sound stays where it belongs. So such lists are read here, and the frames are taken by
their own time stamps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from avpipe.pipeline.media.container import open_media

_MOST_ENTRIES = 1000
_REORDERED_SECONDS = 1.0
"""How far a frame may lie behind one that is decoded after it."""
_ROUNDING_SECONDS = 1e-3
"""An edit list that begins this little before a frame begins with it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit list that begins while a picture is shown.

    Attributes:
        begin_seconds: where the media begin to be presented, on the container's clock.
        end_seconds: where they cease to be.
        media_seconds: the time stamp, in the media, of what is presented at `begin_seconds`.
        parts: stretches of the media that it presents; only the first is described here.
    """

    begin_seconds: float
    end_seconds: float
    media_seconds: float
    parts: int


def edit_between_frames(path: Path, stream: Any) -> Edit | None:
    """The edit list of a video stream, where FFmpeg would get its frames' times wrong.

    Args:
        path: an mp4 or mov file.
        stream: its stream as PyAV has it.

    Returns:
        None where every stretch begins with a frame, or there is no edit list; for fragmented files too, whose frames
        FFmpeg leaves in their places.
    """
    import av

    try:
        with path.open("rb") as file:
            entries, movie_scale, media_scale = _entries(file, stream.id)
        parts = [(begin, length, media) for begin, length, media in entries if media >= 0]
        if not any(media > 0 for _, _, media in parts) or not movie_scale or not media_scale:
            return None
        media_seconds = [media / media_scale for _, _, media in parts]
        stamps = _stamps(path, stream.index, max(media_seconds) + _REORDERED_SECONDS)
    except (OSError, struct.error, av.error.FFmpegError):  # damaged: whoever decodes it will say so
        return None
    if not any(_between(at, stamps) for at in media_seconds):
        return None
    begin, length, _ = parts[0]
    return Edit(begin / movie_scale, (begin + length) / movie_scale, media_seconds[0], len(parts))


def _between(at: float, stamps: list[float]) -> bool:
    """Whether a picture is shown already, and the next one comes later."""
    later = min((stamp for stamp in stamps if stamp >= at), default=None)
    return later is not None and later - at > _ROUNDING_SECONDS and min(stamps) < at


def _stamps(path: Path, index: int, until_seconds: float) -> list[float]:
    """Time stamps of a stream's frames as the media have them, seconds, in the order of decoding."""
    found = []
    with open_media(path, edits=False) as container:
        stream = container.streams[index]
        for packet in container.demux(stream):
            if packet.dts is not None and packet.dts * packet.time_base > until_seconds:
                break
            if packet.pts is not None:
                found.append(float(packet.pts * packet.time_base))
    return found


def _entries(file: IO[bytes], track: int) -> tuple[list[tuple[int, int, int]], int, int]:
    """The edit list of a track: for each entry its begin and length on the movie's clock, and its begin in the media,
    -1 where nothing is presented; and the ticks per second of both clocks. Empty for a fragmented file."""
    movie = {name: place for name, *place in _boxes(file, 0, file.seek(0, 2)) if name == b"moov"}.get(b"moov")
    parts = [] if movie is None else list(_boxes(file, *movie))
    if any(name == b"mvex" for name, *_ in parts):
        return [], 0, 0
    movie_scale = next((_scale(file, *place) for name, *place in parts if name == b"mvhd"), 0)
    for name, *place in parts:
        if name != b"trak":
            continue
        inner = {each: inside for each, *inside in _boxes(file, *place)}
        if not {b"tkhd", b"mdia", b"edts"} <= inner.keys() or _number(file, *inner[b"tkhd"]) != track:
            continue
        lists = [inside for each, *inside in _boxes(file, *inner[b"edts"]) if each == b"elst"]
        clocks = [_scale(file, *inside) for each, *inside in _boxes(file, *inner[b"mdia"]) if each == b"mdhd"]
        return (_listed(file, *lists[0]), movie_scale, clocks[0]) if lists and clocks else ([], 0, 0)
    return [], 0, 0


def _boxes(file: IO[bytes], begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places: name, begin and end of their content."""
    while end - begin >= 8:
        file.seek(begin)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        size = size or end - begin
        if size < head or begin + size > end:
            return
        yield name, begin + head, begin + size
        begin += size


def _full(file: IO[bytes], begin: int, end: int) -> tuple[int, bytes]:
    """Version and content of a box that starts with a version and flags."""
    file.seek(begin)
    data = file.read(min(end - begin, 8 + 20 * _MOST_ENTRIES))
    return data[0] if data else 0, data[4:]


def _scale(file: IO[bytes], begin: int, end: int) -> int:
    """Ticks per second, of `mvhd` or `mdhd`."""
    version, data = _full(file, begin, end)
    (scale,) = struct.unpack_from(">I", data, 16 if version else 8)
    return int(scale)


def _number(file: IO[bytes], begin: int, end: int) -> int:
    """The number of a track, of `tkhd`."""
    version, data = _full(file, begin, end)
    (number,) = struct.unpack_from(">I", data, 16 if version else 8)
    return int(number)


def _listed(file: IO[bytes], begin: int, end: int) -> list[tuple[int, int, int]]:
    version, data = _full(file, begin, end)
    (count,) = struct.unpack_from(">I", data)
    entry = struct.Struct(">Qqi" if version else ">Iii")
    found, at = [], 0
    for number in range(min(count, _MOST_ENTRIES)):
        length, media, _ = entry.unpack_from(data, 4 + number * entry.size)
        found.append((at, length, media))
        at += length
    return found
