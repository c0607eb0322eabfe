"""Ctrl-C: once finishes the open unit, twice stops now; both leave a consistent cache."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from avpipe.pipeline import progress

EXIT_CODE = 130
"""Exit code of a command after Ctrl-C: what shells give for a program that SIGINT ended."""


class Interrupt:
    """While the block runs, the first Ctrl-C is only noted; the second raises KeyboardInterrupt.

    Outside the main thread, where signals cannot be handled, it does nothing.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def asked(self) -> bool:
        """True after the first Ctrl-C."""
        return self._asked

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def _first(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        progress.say("interrupted: finishing the open unit; press Ctrl-C again to stop now")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            progress.say("stopped; what was committed is kept: run the same command again to go on")
