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
from avpipe.pipeline.errors import UsageError

LOCK_NAME = "lock"
_TAKING = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""A lock is never made or taken through a link: it would be somebody else's file."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file at `path` alone while the block runs; waits for whoever holds it."""
    with durable.writing(path):
        descriptor = os.open(path, _TAKING, 0o666)
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

    Raises:
        EnvironmentLacking: no permission, or a file system without locks.
    """
    with durable.writing(path):
        return _take(path)


def try_lock_of_another(path: Path) -> int | None:
    """As `try_lock`, for the lock of another writer: one that cannot be taken, for whatever reason, is not ours."""
    try:
        return _take(path)
    except OSError:
        return None


def is_alive(layout: Layout, writer: str) -> bool:
    """Whether somebody holds the lock of a writer's folder."""
    return is_held(layout.temporary(writer) / LOCK_NAME)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file; needs no right to write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _take(path: Path) -> int | None:
    try:
        descriptor = os.open(path, _TAKING, 0o666)
    except FileNotFoundError:
        return None
    taken = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = os.path.samestat(os.fstat(descriptor), path.stat())  # else deleted between opening and locking
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not taken:
            os.close(descriptor)
    return descriptor if taken else None


class WriterFolder:
    """The folder of one writer's temporaries, locked as long as the writer lives.

    Attributes:
        name: `<host>-<process>-<random>`, unique.
        path: the folder.
    """

    def __init__(self, layout: Layout) -> None:
        descriptor = self._claim(layout)
        self._count, self._process = 0, os.getpid()
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
        """A path for a new temporary, never given out before.

        Raises:
            UsageError: this is a forked child of the process that made the folder; both would use the same names.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"process {os.getpid()} uses the cache writer of process {self._process}, which was forked: "
                "open a CacheWriter of its own in the child"
            )
        self._count += 1
        return self.path / f"{self._count:04d}-{label}"


def _let_go(path: Path, descriptor: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not tidy up after its living parent
        with suppress(OSError):
            if all(file.name == LOCK_NAME for file in path.iterdir()):
                (path / LOCK_NAME).unlink()
                path.rmdir()
    os.close(descriptor)
