"""What decoders say of damage in passing: libav's log lines, as PyAV hands them on or as native code prints them.

A decoder that conceals damage gives a picture or a sound and no error. What it wrote to its log meanwhile, and the
flag on a frame, are often the only signs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

ERROR, WARNING, INFO = 16, 24, 32
"""libav's log levels: the lower, the worse."""
_LEVELS = {"panic": 0, "fatal": 8, "error": ERROR, "warning": WARNING, "info": INFO}


class Line(NamedTuple):
    """One line of libav's log.

    Attributes:
        level: libav's number, `ERROR` or below for an error; `ERROR` where native code printed it without a level.
        source: the codec or format that speaks, such as `h264`.
        text: what it says, without a line end.
    """

    level: int
    source: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


_HARMLESS = (
    "mmco: unref short failure",  # H.264 cut out of a longer video between open groups of pictures
    "low_delay flag set incorrectly",  # MPEG-4 with B-frames
    "SEI type",  # H.264: a remark beside the pictures is cut short
    "unable to decode APP fields",  # JPEG: data of the camera
)
"""How lines begin that libav logs as errors and that undamaged files cause."""

_CONCEALED = "concealing "
"""H.264 and MPEG-4 say at level `INFO` that lost parts of a picture were filled in."""

Lines = Callable[[], list[Line]]
"""Gives all lines that were caught so far."""


def damage(lines: list[Line]) -> Line | None:
    """The first line that tells of damage in the data; None where there is none."""
    return next(filter(_tells, lines), None)


def _tells(line: Line) -> bool:
    if line.level > ERROR:
        return line.text.startswith(_CONCEALED)
    return not line.text.startswith(_HARMLESS)


_lock = threading.Lock()
_listening = 0
_level_before: int | None = None


@contextlib.contextmanager
def libav_lines(level: int = ERROR) -> Iterator[Lines]:
    """Catches what PyAV's FFmpeg logs in this thread, inside.

    A decoder must run in this thread alone (`thread_count = 1`): what its own threads say is dropped.

    Args:
        level: the least severe level that is kept: `ERROR`, `WARNING` or `INFO`.

    Yields:
        A function that gives the lines so far.
    """
    from av.logging import Capture

    _listen(level)
    try:
        with Capture() as caught:
            kept: list[Line] = []

            def lines() -> list[Line]:  # asked after each packet: only what is new is looked at
                kept.extend(Line(it, source, text.strip()) for it, source, text in caught if it <= level)
                caught.clear()
                return kept

            yield lines
    finally:
        _stop_listening()


def _listen(level: int) -> None:
    """Turns PyAV's log on, for as long as anyone listens: it is off by default, and one for the whole process."""
    global _listening, _level_before
    import av.logging

    with _lock:
        if not _listening:
            _level_before = av.logging.get_level()
            av.logging.set_skip_repeated(False)  # or a line like the last one of the file before is swallowed
            logging.getLogger("libav").addHandler(logging.NullHandler())  # lines of other threads go here
            logging.getLogger("libav").propagate = False
        _listening += 1
        av.logging.set_level(max(level, av.logging.get_level() or 0))


def _stop_listening() -> None:
    global _listening
    import av.logging

    with _lock:
        _listening -= 1
        if not _listening:
            av.logging.set_level(_level_before)


_SPOKEN = re.compile(rf"\[(?P<source>[^]@]+) @ 0x[0-9a-f]+\] (\[(?P<level>{'|'.join(_LEVELS)})\] )?(?P<text>.*)")


@contextlib.contextmanager
def native_lines() -> Iterator[Lines]:
    """Catches what native code prints to file descriptor 2 of this process, inside, and keeps libav's lines of it.

    For decoders that bring an FFmpeg of their own. Whatever else is printed meanwhile, by any thread, is dropped. Not
    to be nested.

    Yields:
        A function that gives the lines so far.
    """
    sys.stderr.flush()
    with _scratch() as caught:
        ours = os.dup(2)
        os.dup2(caught.fileno(), 2)

        def lines() -> list[Line]:
            text = os.pread(caught.fileno(), 1 << 20, 0).decode(errors="replace")
            return [
                Line(_LEVELS.get(it["level"], ERROR), it["source"].strip(), it["text"].strip())
                for it in _SPOKEN.finditer(text)
            ]

        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(ours, 2)
            os.close(ours)


def _scratch() -> IO[bytes]:
    """A file without a name, in memory where the system has such: a disk may be full."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("decoder lines"), "w+b")
    return tempfile.TemporaryFile()
