"""A file written from front to end as fast as the disk takes it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from avpipe.pipeline.cache import durable

_PIECE_BYTES = 512 << 10
"""Bytes of one call. Larger ones make the kernel look for larger pieces of memory: 1 MB was ten times slower."""
_GATHER_BYTES = 64 << 10
"""Smaller writes are gathered."""
_WRITE_BACK_BYTES = 4 << 20
"""Bytes after which the disk is told to begin, so that it works while the next rows are made, and fsync waits less."""
_SYNC_FILE_RANGE_WRITE = 2


class Stream:
    """A new file that is only appended to. Memory stays flat.

    Args:
        path: the file; must not exist.

    Raises:
        FileExistsError: it does.
        EnvironmentLacking: no space, no permission (by every method).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gathered = bytearray()
        self._written = self._begun = 0
        with durable.writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def __del__(self) -> None:
        self.close()

    def write(self, *parts: bytes | memoryview) -> None:
        """Appends buffers, which may be changed afterwards."""
        if sum(map(len, parts)) < _GATHER_BYTES:
            for part in parts:
                self._gathered += part
            if len(self._gathered) < _PIECE_BYTES:
                return
            parts = ()
        pending, self._gathered = self._gathered, bytearray()
        with durable.writing(self._path):
            self._send([memoryview(part) for part in (pending, *parts) if len(part)])

    def sync(self) -> None:
        """Makes everything written so far survive a power loss."""
        with durable.writing(self._path):
            self._send([memoryview(self._gathered)] if self._gathered else [])
        self._gathered = bytearray()
        durable.sync_file(self._descriptor, self._path)

    def close(self) -> None:
        """Closes the file; what was not synced may be lost."""
        descriptor, self._descriptor = getattr(self, "_descriptor", -1), -1
        if descriptor >= 0:
            os.close(descriptor)

    def _send(self, parts: list[memoryview]) -> None:
        left = sum(map(len, parts))
        while left:
            sent = os.writev(self._descriptor, parts if left <= _PIECE_BYTES else _first(parts, _PIECE_BYTES))
            left -= sent
            self._written += sent
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]
        if self._written - self._begun >= _WRITE_BACK_BYTES:
            _begin_write_back()(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written


def _first(parts: list[memoryview], most: int) -> list[memoryview]:
    """The first bytes of buffers."""
    found: list[memoryview] = []
    for part in parts:
        found.append(part[:most])
        most -= len(found[-1])
        if not most:
            break
    return found


@cache
def _begin_write_back() -> Callable[[int, int, int], object]:
    """A function that lets the disk begin with a range of a file and does not wait; does nothing off Linux."""
    call = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    if call is None:
        return lambda descriptor, start, count: None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return lambda descriptor, start, count: call(descriptor, start, count, _SYNC_FILE_RANGE_WRITE)
