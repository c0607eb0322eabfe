"""A few threads that work through the pieces of a read together with the thread that asked for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
AHEAD = 32
"""Pieces that the disk is asked for before they are copied: enough to keep its queue full."""


class Crew:
    """Threads for reading, started when they are first needed. Survives a fork: the child starts its own.

    Args:
        threads: threads that work on one read, the caller included, unless it asks for more.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0
        self._process = os.getpid()

    def work(
        self,
        pieces: Sequence[_T],
        do: Callable[[_T], object],
        threads: int,
        announce: Callable[[_T], object] | None = None,
    ) -> None:
        """Does every piece once. Whoever is free takes the next one, so threads get equal shares of bytes.

        When this returns or raises, also on Ctrl-C, no thread is at a piece any more: what they write to is the
        caller's again. Only a second Ctrl-C does not wait for the pieces that are under way.

        Args:
            pieces: the work.
            do: does a piece.
            threads: threads to use, the caller included.
            announce: called with each piece, some pieces before it is done.

        Raises:
            Whatever `do` raised at the first piece (in the order given) that failed.
        """
        if announce is not None:
            for piece in pieces[:AHEAD]:
                announce(piece)
        left = deque(range(len(pieces)))
        failed: dict[int, BaseException] = {}

        def run() -> None:
            while not failed:
                try:
                    number = left.popleft()
                except IndexError:
                    return
                try:
                    if announce is not None and number + AHEAD < len(pieces):
                        announce(pieces[number + AHEAD])
                    do(pieces[number])
                except BaseException as error:
                    failed[number] = error

        helping, changed = [0], threading.Condition()

        def help_out() -> None:  # counts itself: Ctrl-C may come before the caller has noted that it was started
            with changed:
                helping[0] += 1
            try:
                run()
            finally:
                with changed:
                    helping[0] -= 1
                    changed.notify()

        def wait_for_helpers() -> None:
            with changed:
                changed.wait_for(lambda: not helping[0])

        helpers = min(threads, len(pieces)) - 1
        futures: list[Future[None]] = []
        try:
            for _ in range(helpers):
                futures.append(self._helpers(helpers).submit(help_out))
            run()
            wait_for_helpers()
        finally:
            left.clear()
            for future in futures:
                future.cancel()  # one that waits behind other reads has nothing left to do
            wait_for_helpers()  # again: Ctrl-C may have ended the first time
            errors = sorted(failed.items(), key=lambda item: item[0])
            failed.clear()  # an error and the frames that it passed through would keep each other, and files, open
        if errors:
            raise errors.pop(0)[1]

    def close(self) -> None:
        """Ends the threads; another read starts them again."""
        pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(wait=False)

    def _helpers(self, wanted: int) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid() or self._size < wanted:
            self._size = max(self.threads - 1, wanted)
            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="avpipe-read")
            self._process = os.getpid()
        return self._pool
