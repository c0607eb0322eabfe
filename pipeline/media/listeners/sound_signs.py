"""Signs that a packet of sound is damaged, though the decoder gives samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from avpipe.pipeline.media.probe import CannotVouch
from avpipe.pipeline.media.signs import ERROR, INFO, Line, Lines

LOUDEST = 4.0
"""No codec overshoots full scale that far (measured on clipped noise: 3.3); a damaged gain does."""

_MP3 = frozenset({"mp3float", "mp3", "mp2float", "mp2"})
_STRICT = "crccheck+bitstream+buffer"
_AVI_HEADER = 8
_LEAD_FRAMES = 10
"""So far into an MP3 stream a frame may refer to one before the start, where a longer recording was cut there."""

HABIT = 0.2
"""From this share of the frames on, code words that do not end where their frame does are a habit of its encoder."""


class SoundSigns:
    """Decodes one track, packet by packet in order, and looks for signs of damage in what the decoder gives and says.

    An MP3 track is decoded once more, beside, by a decoder that is strict about the lengths of code words. It finds
    most damage, but drops what it finds, and some encoders (shine) are careless in each second frame: it is believed
    at the end, where it complains of few.
    """

    def __init__(self, codec: str) -> None:
        """Takes FFmpeg's name of the codec."""
        self._codec = codec
        self._is_pcm = codec.startswith("pcm")
        self._junk = ""
        self._frames = 0
        self._packets = 0
        self._careless: list[str] = []
        self._strict: Any = None
        if codec in _MP3:
            import av

            self._strict = av.CodecContext.create(codec, "r")
            self._strict.thread_count = 1
            self._strict.options = {"err_detect": _STRICT}

    @property
    def log_level(self) -> int:
        """The least severe lines of libav's log that are wanted."""
        return ERROR if self._strict is None else INFO

    def decode(self, packet: Any, lines: Lines, sources: set[str]) -> list[Any]:
        """Decodes a packet.

        Args:
            packet: of PyAV, of a stream that checks checksums (`err_detect`).
            lines: libav's log.
            sources: who in it speaks of this track.

        Returns:
            The frames in it.

        Raises:
            CannotVouch: damage.
        """
        import av

        self._look_closely(packet, lines)
        before, failure, frames = len(lines()), "", []
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            failure = error.strerror or str(error)
        lead, self._frames = self._frames, self._frames + len(frames)
        told = [line for line in lines()[before:] if line.source in sources and self._tells(line, lead)]
        damage = str(told[0]) if told else failure and f"{self._codec}: {failure}"
        if self._strict is not None and not frames:  # what lies before the first MP3 frame or behind the last is junk
            self._junk = self._junk or (damage if lead else "")
            return []
        # Of PCM the last packet may be shorter than the others: the length of the whole tells.
        flagged = packet.is_corrupt or any(frame.is_corrupt for frame in frames)
        damage = self._junk or damage or ("a packet is flagged as damaged" if flagged and not self._is_pcm else "")
        if damage:
            raise CannotVouch(damage)
        return frames

    def judge(self) -> None:
        """To be called after the last packet.

        Raises:
            CannotVouch: what was noticed in some packets was no habit of the encoder.
        """
        if self._careless and len(self._careless) < HABIT * self._packets:
            raise CannotVouch(self._careless[0])

    def _look_closely(self, packet: Any, lines: Lines) -> None:
        import av

        if self._strict is None or not packet.size:
            return
        before = len(lines())
        with contextlib.suppress(av.error.FFmpegError):  # the other decoder raises it too
            self._strict.decode(packet)
        self._packets += 1
        self._careless += [str(it) for it in lines()[before:] if it.text.startswith(("overread", "bits_left"))][:1]

    def _tells(self, line: Line, lead: int) -> bool:
        """Whether a line of the log tells of damage, where so many frames came before."""
        if line.level > ERROR:
            return False
        return self._strict is None or lead >= _LEAD_FRAMES or not line.text.startswith("invalid new backstep")


class LostPackets:
    """Compares the packets of an AVI track with its index: the format has no time stamps, so that a lost one would
    move all that follows."""

    def __init__(self, index: Iterable[Any]) -> None:
        """Takes the index entries of the stream (PyAV)."""
        self._listed = [(entry.pos + _AVI_HEADER, entry.size) for entry in index]
        self._due = self._seen = self._next = 0

    def check(self, packet: Any) -> None:
        """Looks at the packets in order.

        Raises:
            CannotVouch: as many bytes as this packet has were lost before it.
        """
        if packet.pos is None or not packet.size:
            return
        while self._next < len(self._listed) and self._listed[self._next][0] < packet.pos:
            self._due += self._listed[self._next][1]
            self._next += 1
        if self._due - self._seen >= packet.size:
            raise CannotVouch(f"{self._due - self._seen} bytes of the track are not where the index says")
        self._seen += packet.size


def check_loudness(samples: np.ndarray, codec: str) -> None:
    """Looks at decoded samples, floats with 1.0 as full scale or integers.

    Raises:
        CannotVouch: they are louder than a codec makes them, or no numbers.
    """
    if samples.dtype.kind != "f" or codec.startswith("pcm") or not samples.size:
        return
    if not -LOUDEST <= samples.min() <= samples.max() <= LOUDEST:
        raise CannotVouch(f"{codec}: samples beyond {LOUDEST:.0f} times full scale")
