"""Copying rows out of a shard at the speed of memory, and checking them while they are still in the processor's cache.

Rows that follow each other in the file and in the result are one copy for numpy, which lets go of Python's lock; so
threads copy side by side, and Python's own share stays small.
"""

from __future__ import annotations

import mmap
import os

import crc32c
import numpy as np

from avpipe.pipeline.cache.layout import CRC_BYTES

_HOT_BYTES = 256 << 10
"""Bytes that are copied before they are checked: they fit the second-level cache of a core."""
_ROWS_AT_ONCE = 500
"""Two buffers a row; the system takes 1024 at once."""


def from_map(source: mmap.mmap, start: int, stride: int, target: np.ndarray, *, check: bool) -> int:
    """Copies rows from a mapped file.

    Args:
        source: the whole file.
        start: where the first row's chunk begins.
        stride: bytes from one chunk to the next.
        target: uint8 [rows, bytes of a row], C-contiguous.
        check: compare the copies with the checksums behind the rows.

    Returns:
        Number of rows that are right, counted from the first; all of them without a check.
    """
    count, row_bytes = len(target), int(target.shape[1])
    rows = np.ndarray((count, row_bytes), np.uint8, source, start, (stride, 1))
    if not check:
        np.copyto(target, rows)
        return count
    expected = np.ndarray((count,), "<u4", source, start + row_bytes, (stride,)).tolist()
    step = max(1, _HOT_BYTES // row_bytes)
    for first in range(0, count, step):
        part = target[first : first + step]
        np.copyto(part, rows[first : first + step])
        good = matching(part, expected[first : first + step])
        if good < len(part):
            return first + good
    return count


def from_file(descriptor: int, start: int, stride: int, target: np.ndarray, *, check: bool) -> int:
    """Copies rows from an open file, many with one call; arguments and result as for `from_map`.

    A row that is short counts as wrong.

    Raises:
        OSError: the system cannot read.
    """
    count, row_bytes = len(target), int(target.shape[1])
    step = min(max(1, _HOT_BYTES // row_bytes), _ROWS_AT_ONCE) if check else _ROWS_AT_ONCE
    gaps = np.empty((min(step, count), stride - row_bytes), np.uint8)
    for first in range(0, count, step):
        part = target[first : first + step]
        good = _read_rows(descriptor, start + first * stride, part, gaps)
        if check and good:
            expected = gaps[:good, :CRC_BYTES].copy().view("<u4").ravel().tolist()
            good = matching(part[:good], expected)
        if good < len(part):
            return first + good
    return count


def check_mapped(source: mmap.mmap, start: int, stride: int, count: int, row_bytes: int) -> int:
    """Compares rows with their checksums where they lie; arguments and result as for `from_map`."""
    rows = np.ndarray((count, row_bytes), np.uint8, source, start, (stride, 1))
    return matching(rows, np.ndarray((count,), "<u4", source, start + row_bytes, (stride,)).tolist())


def matching(rows: np.ndarray, expected: list[int]) -> int:
    """How many rows, counted from the first, have the checksums that are expected."""
    for number, checksum in enumerate(expected):
        if crc32c.crc32c(rows[number]) != checksum:
            return number
    return len(expected)


def _read_rows(descriptor: int, start: int, target: np.ndarray, gaps: np.ndarray) -> int:
    """Reads rows and what lies between them with as few calls as the system allows; returns the rows that are whole."""
    count, row_bytes = len(target), int(target.shape[1])
    stride = row_bytes + int(gaps.shape[1])
    buffers: list[memoryview] = []
    for row, gap in zip(target, gaps, strict=False):
        buffers += (row.data, gap.data)
    buffers[-1] = buffers[-1][:CRC_BYTES]  # behind the last row there is its checksum, and perhaps no gap
    wanted, done = (count - 1) * stride + row_bytes + CRC_BYTES, 0
    while done < wanted:
        got = os.preadv(descriptor, _beyond(buffers, done), start + done)
        if not got:
            return (done + stride - row_bytes - CRC_BYTES) // stride
        done += got
    return count


def _beyond(buffers: list[memoryview], done: int) -> list[memoryview]:
    """What is left of buffers of which `done` bytes are filled: a network file system may give less than asked."""
    if not done:
        return buffers
    left: list[memoryview] = []
    for buffer in buffers:
        if done < len(buffer):
            left.append(buffer[done:])
        done = max(0, done - len(buffer))
    return left
