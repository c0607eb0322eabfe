"""Leases: which writer works on which unit, so that several share the work and do nothing twice.

A lease is advice. It decides who works, never what is committed: two writers on one unit, because a lease ran out or
a clock was wrong, cost work and no byte, since a unit's records are put if absent.

A lease is a small file that names its writer, renewed by touching it. It is free when that writer is dead, or when it
has not been renewed for `LEASE_SECONDS`. A thread renews it, but only as long as the writer gets on with its work: one
that hangs would keep it for ever. Every change happens under a short lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lock import is_alive
from avpipe.pipeline.cache.recordcheck import is_plain
from avpipe.pipeline.errors import EnvironmentLacking

LEASE_SECONDS = 120.0
"""After this long without a renewal a living writer is taken for one that hangs, and its units for free."""
STALLED_SECONDS = 900.0
"""After this long without progress a writer renews nothing any more: longer than any clip, or a commit, takes."""
RENEWALS = 4
"""Renewals in `LEASE_SECONDS`."""
LOCK_SECONDS, LOCK_SECONDS_AGAIN = 5.0, 0.1
"""How long the lock of the leases is waited for, which nobody needs for more than a moment. Who keeps it longer hangs;
then the writer goes on without it, and waits less the next time."""
LOCK_NAME = "lock"
_LONGEST_LEASE = 1000  # bytes of a lease file that are looked at
_OPENING = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # never through a link, which no writer makes


class Leases:
    """The leases of one writer. They are renewed by a thread until `close`, or until the process ends or stalls.

    Args:
        layout: paths of the cache.
        writer: name of the writer's folder, whose lock shows that it lives.
    """

    def __init__(self, layout: Layout, writer: str) -> None:
        self._layout, self._writer = layout, writer
        self._seconds, self._patience, self._stalled = LEASE_SECONDS, LOCK_SECONDS, STALLED_SECONDS
        self._progress = time.monotonic()
        self._held: set[int] = set()
        self._process = os.getpid()
        self._closed = threading.Event()
        self._renewing: threading.Thread | None = None

    def claim(self, unit: int) -> bool:
        """Takes the lease of a unit, unless another living writer holds it. Taking one's own again renews it.

        Counts as progress.

        Raises:
            EnvironmentLacking: the folder of the leases cannot be written.
        """
        self.progress()
        if self._renewing is None:
            self._begin()
        with self._locked() as now:
            if self._held_by_another(unit, now):
                return False
            self._put(unit)
            self._held.add(unit)
        return True

    def release(self, unit: int) -> None:
        """Lets go of a lease; one that has been taken over stays with its new holder."""
        if unit in self._held:
            with self._locked():
                self._remove(unit)

    def progress(self) -> None:
        """Says that the writer gets on with its work: its leases are renewed for another `STALLED_SECONDS`."""
        self._progress = time.monotonic()

    def holder(self, unit: int) -> str:
        """The writer that a unit's lease names, "" for none; for messages."""
        return _writer_in(self._layout.lease(unit))

    def close(self) -> None:
        """Lets go of every lease. A forked child leaves those of its parent alone."""
        self._closed.set()
        if self._held and os.getpid() == self._process:
            with suppress(OSError, EnvironmentLacking), self._locked():  # the writer's end frees them in any case
                for unit in tuple(self._held):
                    self._remove(unit)

    def _begin(self) -> None:
        """Makes the folder, clears it of leases that nobody holds, and begins to renew."""
        durable.make_folder(self._layout.leases)
        if self._layout.leases.is_symlink():
            raise EnvironmentLacking(f"{self._layout.leases} is a symbolic link, which a cache never makes: delete it")
        with self._locked() as now:
            for path in self._layout.leases.iterdir():
                if path.name.isdigit() and path.is_file() and not self._held_by_another(int(path.name), now):
                    durable.remove(path)
        self._renewing = threading.Thread(target=self._renew, name="lease-renewal", daemon=True)
        self._renewing.start()

    @contextmanager
    def _locked(self) -> Iterator[float]:
        """The leases' lock, and the time on the clock of the file system, which all hosts share."""
        path = self._layout.leases / LOCK_NAME
        with durable.writing(path):
            descriptor = os.open(path, _OPENING, 0o666)
        try:
            self._patience = LOCK_SECONDS if _lock_within(descriptor, path, self._patience) else LOCK_SECONDS_AGAIN
            os.utime(descriptor)
            yield os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _held_by_another(self, unit: int, now: float) -> bool:
        path = self._layout.lease(unit)
        try:
            age = now - path.lstat().st_mtime
        except FileNotFoundError:
            return False
        writer = _writer_in(path)
        return writer not in ("", self._writer) and age <= self._seconds and is_alive(self._layout, writer)

    def _put(self, unit: int) -> None:
        path = self._layout.lease(unit)
        with durable.writing(path):
            descriptor = os.open(path, _OPENING | os.O_TRUNC, 0o666)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                json.dump({"writer": self._writer}, stream)

    def _remove(self, unit: int) -> None:
        path = self._layout.lease(unit)
        if _writer_in(path) == self._writer:
            durable.remove(path)
        self._held.discard(unit)

    def _renew(self) -> None:
        while not self._closed.wait(self._seconds / RENEWALS):
            with suppress(OSError, EnvironmentLacking):  # a lease that cannot be renewed runs out: no harm is done
                if self._held and time.monotonic() - self._progress < self._stalled:
                    self._renew_once()

    def _renew_once(self) -> None:
        with self._locked():
            for unit in tuple(self._held):
                path = self._layout.lease(unit)
                if _writer_in(path) == self._writer:
                    os.utime(path)


def remove_leases_of_the_dead(layout: Layout, writer: str) -> None:
    """Removes the leases of a writer that is dead; they are free as they are, but nobody else might clear them away."""
    if layout.leases.is_dir() and not layout.leases.is_symlink():
        leases = Leases(layout, writer)
        with leases._locked():
            for path in layout.leases.iterdir():
                if path.name.isdigit():
                    leases._remove(int(path.name))


def _lock_within(descriptor: int, path: Path, seconds: float) -> bool:
    """Takes a lock; False where somebody keeps it for `seconds`."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        try:
            with durable.writing(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _writer_in(path: Path) -> str:
    """The writer that a lease names; "" where there is none, or where the file is torn or no lease."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):
            return ""
        raise
    try:
        writer = json.loads(os.read(descriptor, _LONGEST_LEASE))["writer"]
    except (ValueError, TypeError, KeyError, IsADirectoryError):
        return ""
    finally:
        os.close(descriptor)
    return writer if isinstance(writer, str) and is_plain(writer) else ""
