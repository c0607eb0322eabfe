"""Signs that a packet of sound is damaged, though the decoder gives samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from avpipe.pipeline.media.probe import CannotVouch
from avpipe.pipeline.media.signs import ERROR, INFO, Line, Lines

_MP3 = frozenset({"mp3float", "mp3", "mp2float", "mp2"})
_STRICT = "crccheck+bitstream+buffer"
_AVI_HEADER = 8

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
        self._begun = False
        self._packets = 0
        self._careless: list[str] = []
        self._lines: Lines = list
        self._sources: set[str] = set()
        self._heard = 0
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

    def listen(self, lines: Lines, sources: set[str]) -> None:
        """To be called before the first packet is read. What the log holds by then does not count.

        Args:
            lines: libav's log.
            sources: who in it speaks of this track: its codec and its container.
        """
        self._lines, self._sources, self._heard = lines, sources, len(lines())

    def decode(self, packet: Any) -> list[Any]:
        """Decodes a packet.

        Args:
            packet: of PyAV, of a stream that checks checksums (`err_detect`).

        Returns:
            The frames in it.

        Raises:
            CannotVouch: damage.
        """
        import av

        said = self._new_lines()  # by the container, as it read the packet
        self._look_closely(packet)
        failure, frames = "", []
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            failure = error.strerror or str(error)
        said += self._new_lines()
        told = [line for line in said if line.source in self._sources and line.level <= ERROR]
        damage = str(told[0]) if told else failure and f"{self._codec}: {failure}"
        if self._strict is not None and not frames:  # what lies before the first MP3 frame or behind the last is junk
            self._junk = self._junk or (damage if self._begun else "")
            return []
        self._begun = True
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

    def _new_lines(self) -> list[Line]:
        before, self._heard = self._heard, len(self._lines())
        return self._lines()[before:]

    def _look_closely(self, packet: Any) -> None:
        import av

        if self._strict is None or not packet.size:
            return
        with contextlib.suppress(av.error.FFmpegError):  # the other decoder raises it too
            self._strict.decode(packet)
        self._packets += 1
        said = self._new_lines()
        self._careless += [str(it) for it in said if it.text.startswith(("overread", "bits_left"))][:1]


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
        # FFmpeg hands large chunks out in parts: the one that this packet is in the middle of is not due yet.
        while self._next < len(self._listed) and sum(self._listed[self._next]) <= packet.pos:
            self._due += self._listed[self._next][1]
            self._next += 1
        if self._due - self._seen >= packet.size:
            raise CannotVouch(f"{self._due - self._seen} bytes of the track are not where the index says")
        self._seen += packet.size


def check_numbers(samples: np.ndarray, codec: str) -> None:
    """Looks at decoded samples. How loud they are tells nothing: on clipped noise, codecs come to 9 times full scale.

    Raises:
        CannotVouch: some are no numbers, though they are not stored as such.
    """
    if not codec.startswith("pcm") and not np.isfinite(samples).all():
        raise CannotVouch(f"{codec}: samples that are no numbers")
