"""Videos: what the container declares, and a walk through its packets without decoding them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.check import waves
from avpipe.pipeline.datasets.check.boxes import check_boxes
from avpipe.pipeline.datasets.check.broken import Broken
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import MediaFacts, facts_of, probe

_ZEROS = bytes(64)
_CODED = ("h264", "hevc", "vp8", "vp9")
"""Codecs whose pictures never hold `_ZEROS`."""

Whole = Callable[[bytes], bool]


def look(path: Path) -> dict[str, Any]:
    """Opens a video and reads every packet.

    Returns:
        `bytes`, `seconds`, and `video` and `audio`: where the track's last packet ends, None where there is none;
        `tail`, what is odd at the end of the file though nothing is missing. A wav is looked at as sound.

    Raises:
        Broken: `truncated`, `damaged` or `broken-header`.
    """
    size = path.stat().st_size
    if waves.is_wav(path):
        facts = waves.look(path)
        return {"bytes": size, "video": None, "audio": facts["seconds"], **facts}
    odd = check_boxes(path)
    try:
        ends, samples_end = _read(path.absolute())
        if odd is not None and not 0 < samples_end <= odd.whole_bytes:
            raise odd.broken
    except Broken as broken:
        raise broken if odd is None else odd.broken from None
    tail = {} if odd is None else {"tail": odd.what}
    tracks = {"video": ends.get("video"), "audio": ends.get("audio")}
    return {"bytes": size, "seconds": max(ends.values()), **tracks, **tail}


def _read(path: Path) -> tuple[dict[str, float], int]:
    """Where each track ends, in seconds, and where the last sample of the index ends, in bytes; 0: no index."""
    import av

    try:
        with open_media(path) as container:
            ends = _packet_ends(facts_of(path, container), container)
            entries = (entry for stream in container.streams for entry in stream.index_entries)
            return ends, max((entry.pos + entry.size for entry in entries), default=0)
    except (av.error.FFmpegError, ValueError) as error:
        raise Broken("broken-header", _refusal(path, error)) from error


def _refusal(path: Path, error: Exception) -> str:
    """Why a file cannot be opened, as extraction would say it."""
    try:
        probe(path)
    except InputRejected as rejected:
        return rejected.reason.removeprefix(f"{path}: ")
    return str(error)


def _packet_ends(facts: MediaFacts, container: Any) -> dict[str, float]:
    """Seconds from the clip's start to the end of each track's last packet; raises Broken at the first bad packet."""
    import av

    tracks = {t.index: kind for kind, t in (("video", facts.video), ("audio", facts.audio)) if t is not None}
    if not tracks:
        raise Broken("no-video", f"neither a video nor an audio track in it ({facts.container})")
    ends = dict.fromkeys(tracks.values(), 0.0)
    sizes = dict.fromkeys(tracks.values(), 0)
    streams = [container.streams[index] for index in tracks]
    checks = {s.index: _check_of(s) if tracks[s.index] == "video" else None for s in streams}
    ticks = {s.index: float(s.time_base) for s in streams}  # a fraction for every packet takes as long as reading it
    try:
        for packet in container.demux(streams):
            if not packet.size:
                continue
            index, whole = packet.stream_index, checks[packet.stream_index]
            at = (packet.pts if packet.pts is not None else packet.dts or 0) * ticks[index] - facts.origin_seconds
            if packet.is_corrupt or (whole is not None and not whole(bytes(packet))):
                what = "pictures" if tracks[index] == "video" else "sound"
                raise Broken("damaged", f"damaged {what} near second {max(at, 0.0):.1f}")
            kind = tracks[index]
            sizes[kind] += packet.size
            ends[kind] = max(ends[kind], at + (packet.duration or 0) * ticks[index])
    except av.error.FFmpegError as error:
        raise Broken("damaged", f"FFmpeg cannot read it to its end ({error.strerror or error})") from error
    for kind, size in sizes.items():
        if not size:
            raise Broken("damaged", f"its {kind} track is empty")
    return ends


def _check_of(stream: Any) -> Whole | None:
    """Whether a packet of the stream looks whole, for codecs where that can be told."""
    codec, extra = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
    for name, place in (("h264", 4), ("hevc", 21)):
        if codec == name and extra[:1] == b"\x01" and len(extra) > place:
            length_bytes = (extra[place] & 3) + 1
            return lambda data: _units_fit(data, length_bytes) and _ZEROS not in data
    return (lambda data: _ZEROS not in data) if codec in _CODED else None


def _units_fit(data: bytes, length_bytes: int) -> bool:
    """Whether the units of an H.264 or HEVC packet, each after its length, fill the packet exactly."""
    at, end = 0, len(data)
    while at + length_bytes < end:
        length = int.from_bytes(data[at : at + length_bytes])
        at += length_bytes
        if not length or data[at] & 0x80:  # a unit never starts with this bit
            return False
        at += length
    return at == end or (at < end and not any(data[at:]))  # what is left may be padding
