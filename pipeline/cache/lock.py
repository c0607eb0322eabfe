"""File locks: who is planning, and which writers live.

Locks are `flock` locks: the kernel lets go of them when the process dies, however it dies, so a lock that can be taken
belongs to nobody. No clock and no process number is compared.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.layout import Layout

LOCK_NAME = "lock"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file at `path` alone while the block runs; waits for whoever holds it."""
    with durable.writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with durable.writing(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Waits until nobody holds the lock file at `path` alone, and keeps it so meanwhile. Needs no right to write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """Takes the lock file at `path` if nobody holds it.

    Returns:
        A descriptor that holds the lock until it is closed; None where somebody holds it, or where the folder is gone.
    """
    try:
        with durable.writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):  # else it was deleted between opening and locking
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


class WriterFolder:
    """The folder of one writer's temporaries, locked as long as the writer lives.

    Attributes:
        name: `<host>-<process>-<random>`, unique.
        path: the folder.
    """

    def __init__(self, layout: Layout) -> None:
        descriptor = self._claim(layout)
        self._count = 0
        self.close = weakref.finalize(self, _let_go, self.path, descriptor, os.getpid())
        """Lets go of the lock and removes the folder if it is empty; what is left in it is for recovery to judge."""

    def _claim(self, layout: Layout) -> int:
        host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:40]
        while True:
            self.name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
            self.path = layout.temporary(self.name)
            durable.make_folder(self.path)
            descriptor = try_lock(self.path / LOCK_NAME)
            if descriptor is not None:  # else a recovery took the newborn folder for a dead one: take another name
                return descriptor

    def fresh(self, label: str) -> Path:
        """A path for a new temporary, never given out before."""
        self._count += 1
        return self.path / f"{self._count:04d}-{label}"


def _let_go(path: Path, descriptor: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not tidy up after its living parent
        with suppress(OSError):
            if all(file.name == LOCK_NAME for file in path.iterdir()):
                (path / LOCK_NAME).unlink()
                path.rmdir()
    os.close(descriptor)
