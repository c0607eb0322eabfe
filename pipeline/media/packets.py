"""What the packets of a video show of damage before anything is decoded, for every decoder alike.

A zeroed stretch (a hole in a download, a bad sector) in H.264, HEVC or MPEG-4 often decodes without a word. But their
syntax forbids long runs of zero bits, which would look like start codes, so the bytes themselves tell. VP8, VP9 and AV1
have no such rule: sound files have been seen with 41 zero bytes in a row.

Matroska goes on behind bytes that it cannot read, and whatever lay there is missing from the pictures without a word of
the decoder. FFmpeg's log tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, VideoFacts
from avpipe.pipeline.media.signs import Line, damage, libav_lines

if TYPE_CHECKING:
    from av.packet import Packet

_FORBIDDING = ("h264", "hevc", "mpeg4")
"""Codecs whose pictures cannot hold long runs of zero bytes."""
# Some multiplexers leave padding behind a picture.
_PADDING_BYTES = 32
_PICTURES = {"h264": range(1, 6), "hevc": range(32)}
"""Types of the units (NAL) that hold parts of pictures; other units may hold anything an encoder wrote."""


def check_packets(facts: MediaFacts, video: VideoFacts, until_seconds: float) -> None:
    """Looks at the packets that the frames up to a time are decoded from.

    Args:
        facts: of the container.
        video: of the stream.
        until_seconds: the last wanted time, on the container's clock.

    Raises:
        CannotVouch: a packet is cut short or holds bytes that no encoder writes, the index of an AVI file names
            packets that are not there, or a Matroska file holds something else than packets.
    """
    import av

    matroska = facts.container.startswith("matroska")
    if video.codec not in _FORBIDDING and facts.container != "avi" and not matroska:
        return
    said: Line | None = None
    seen: list[int] = []
    listed: list[int] = []
    # An error is left to the decoder, which will meet it too.
    with contextlib.suppress(av.error.FFmpegError), open_media(facts.path) as container, libav_lines() as lines:
        stream = container.streams[video.index]
        length_bytes = _length_bytes(video.codec, stream.codec_context.extradata or b"")
        if facts.container == "avi":
            listed = [entry.pos for entry in stream.index_entries if entry.size]
        last_dts = until_seconds / float(stream.time_base or 1)
        for packet in container.demux(stream):
            if packet.dts is not None and packet.dts > last_dts:
                break
            _check(packet, video.codec, length_bytes)
            if packet.pos is not None:
                seen.append(packet.pos)
        said = damage(lines())
    if matroska and said is not None:
        raise CannotVouch(f"packets are lost or damaged ({said})")
    _check_index(listed, seen)


def _check(packet: Packet[Any], codec: str, length_bytes: int) -> None:
    wrong = ""
    if packet.is_corrupt:
        wrong = "is cut short"
    elif any(_zeroed(part) for part in _parts(bytes(packet), codec, length_bytes)):
        wrong = f"holds zero bytes where {codec} cannot have any"
    if wrong:
        place = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.2f} s"
        raise CannotVouch(f"the packet{place} {wrong}")


def _parts(data: bytes, codec: str, length_bytes: int) -> Iterator[bytes]:
    """The parts of a packet in which no three zero bytes may follow each other."""
    if b"\0\0\0" not in data:
        return
    if codec == "mpeg4":
        yield data
    elif length_bytes:
        start = 0
        while start + length_bytes < len(data):
            size = int.from_bytes(data[start : start + length_bytes])
            unit = data[start + length_bytes : start + length_bytes + size]
            start += length_bytes + size
            if unit and ((unit[0] & 31) if codec == "h264" else (unit[0] >> 1) & 63) in _PICTURES[codec]:
                yield unit


def _zeroed(part: bytes) -> bool:
    kept = part.rstrip(b"\0")
    if len(part) - len(kept) >= _PADDING_BYTES:
        return True
    start = kept.find(b"\0\0\0")
    while start >= 0:
        run = len(kept) - start - len(kept[start:].lstrip(b"\0"))
        if run > 3 or kept[start + run] != 1:  # one zero byte may stand before a start code, 00 00 01
            return True
        start = kept.find(b"\0\0\0", start + run)
    return False


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Size of the length before each unit of a packet (mp4, Matroska); 0 where start codes part them instead."""
    place = {"h264": 4, "hevc": 21}.get(codec)
    if place is None or len(extradata) <= place or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def _check_index(listed: list[int], seen: list[int]) -> None:
    """An AVI file numbers its pictures by counting packets: a lost one moves all those behind it."""
    expected = sum(1 for place in listed if place <= max(seen, default=0))
    if len(seen) < expected:
        raise CannotVouch(f"{expected - len(seen)} of {expected} packets in the index are not where it says")
