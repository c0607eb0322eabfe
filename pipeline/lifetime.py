"""Processes that end together: a child with its parent, and a parent that is told to end without leaving anything."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from avpipe.pipeline import progress

_PR_SET_PDEATHSIG = 1
_PARENT_CHECK_SECONDS = 0.5
_STOPPED = "{}: stopped before it was done; its files are deleted"


def die_with(parent: int) -> None:
    """Makes the kernel kill this process when its parent is gone; where it cannot, a thread looks.

    Args:
        parent: process id of the parent, as the parent knows it.
    """
    by_kernel = sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    if os.getppid() != parent:  # it ended before the request
        os._exit(1)
    if not by_kernel:
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


@contextmanager
def orderly_end() -> Iterator[None]:
    """While the block runs, SIGTERM raises SystemExit, so that blocks are left and files deleted; again, it is ignored.

    Says so where the block, which deletes its files, ends by it or by Ctrl-C.
    The exit code is the shell's, 128 and the signal's number. Outside the main thread, where signals cannot be handled,
    it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except KeyboardInterrupt:
        progress.say(_STOPPED.format("interrupted"))
        raise
    except SystemExit:
        progress.say(_STOPPED.format("told to end (SIGTERM)"))
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
