"""Putting files out of memory, so that reading them meets the disk, and seeing whether that worked."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

_LITTLE = 0.02


def drop(files: Iterable[Path]) -> bool:
    """Asks the system to forget files that have been synced, and looks whether it did.

    Returns:
        False where some of them stay in memory: on file systems that live there, or while somebody maps them.
    """
    files = [path for path in files if path.stat().st_size]
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    pages = sum(-(-path.stat().st_size // mmap.PAGESIZE) for path in files)
    return sum(map(resident_pages, files)) <= _LITTLE * pages


def resident_pages(path: Path) -> int:
    """How many pages of a file are in memory; all of them where the system does not say."""
    size = path.stat().st_size
    count = -(-size // mmap.PAGESIZE)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), size, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        flags = np.zeros(count, np.uint8)
        call = getattr(ctypes.CDLL(None), "mincore", None)
        failed = call is None or call(
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data)
        )
        del view
    return count if failed else int((flags & 1).sum())
