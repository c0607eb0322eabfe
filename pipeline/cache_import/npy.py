"""Rows of an npy array that lies in a file, read as they are asked for.

Nothing is unpickled. Nothing is mapped either: a mapped file that another program cuts kills the process.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.files import check_file

STAGE = "features"
"""Stage of errors about imported features."""
MAGIC = b"\x93NUMPY"
WHOLE_BYTES = 256 * 2**20
"""Most bytes that are held at once where values cannot be read row by row."""
MOST_BYTES = 2**30
"""Most bytes of one clip in a table, or of one segment in a file of its own: no features are that large, but a sparse
file says so of itself in a few bytes."""


def rejected(reason: str, hint: str = "") -> InputRejected:
    """An error about the features of one clip."""
    return InputRejected(reason, stage=STAGE, hint=hint)


class NpyRows:
    """An npy array in a file.

    Args:
        file: open for reading; stays the caller's.
        name: name for messages.
        start: byte at which the npy data begin.
        end: byte behind the last of them.

    Attributes:
        shape: shape of the array, at least one axis.
        dtype: a type of integers or floats.

    Raises:
        InputRejected: no npy array of numbers, or a truncated one.
    """

    def __init__(self, file: BinaryIO, name: str, start: int, end: int) -> None:
        self._file, self._name = file, name
        file.seek(start)
        self.shape, fortran, self.dtype = _read_header(file, name)
        self._start = file.tell()
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        size = self.shape[0] * self._row_bytes
        if end - self._start < size:
            raise rejected(
                f"{name}: truncated: {end - self._start} bytes of values instead of {size}", "fetch the file again"
            )
        self._whole = self._read_fortran(size) if fortran and len(self.shape) > 1 else None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` - 1, in the array's own type."""
        if self._whole is not None:
            return self._whole[start:stop]
        require_small(self._name, (stop - start, *self.shape[1:]), self.dtype)
        self._file.seek(self._start + start * self._row_bytes)
        values = np.frombuffer(self._take((stop - start) * self._row_bytes), self.dtype)
        return values.reshape(stop - start, *self.shape[1:])

    def _read_fortran(self, size: int) -> np.ndarray:
        if size > WHOLE_BYTES:
            raise rejected(
                f"{self._name}: {size} bytes in column order, whose rows cannot be read one by one",
                "save it again with numpy.save(FILE, numpy.ascontiguousarray(VALUES))",
            )
        return np.frombuffer(self._take(size), self.dtype).reshape(self.shape, order="F")

    def _take(self, count: int) -> bytes:
        try:
            data = self._file.read(count)
        except OSError as error:
            raise rejected(f"{self._name}: {error.strerror or error}") from error
        if len(data) < count:
            raise rejected(f"{self._name}: truncated", "fetch the file again")
        return data


@contextmanager
def open_npy(path: Path) -> Iterator[NpyRows]:
    """The array of an npy file.

    Raises:
        InputRejected: the file is missing, is no plain file, or holds no npy array of numbers.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise rejected(f"{path}: no plain file")
        file = path.open("rb")
    except OSError as error:
        hint = "fetch it, or leave the clip out" if isinstance(error, FileNotFoundError) else ""
        raise rejected(f"{path}: {(error.strerror or str(error)).lower()}", hint) from error
    with file:
        require_npy(path, file)
        yield NpyRows(file, str(path), 0, os.fstat(file.fileno()).st_size)


def require_npy(path: Path, file: BinaryIO) -> None:
    """Refuses a file that does not begin as an npy file does, with the likeliest reason."""
    head = file.read(len(MAGIC))
    if head == MAGIC:
        return
    check_file(path, STAGE, "features")  # names empty files, pointers and text
    what = "a pickle, which is never loaded" if head.startswith(b"\x80") else "no npy file"
    raise rejected(f"{path}: {what}", "save the values with numpy.save")


def _read_header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, OSError) as error:
        raise rejected(f"{name}: no readable npy header: {error}", "fetch the file again") from error
    require_numbers(name, dtype)
    if not shape:
        raise rejected(f"{name}: a single number, not features of segments")
    return shape, fortran, dtype


def require_numbers(name: str, dtype: np.dtype) -> None:
    """Refuses values that are no plain integers or floats.

    Raises:
        InputRejected: names the type.
    """
    if dtype.hasobject:
        raise rejected(f"{name}: holds pickled objects, which are never loaded", "save plain numbers with numpy.save")
    if dtype.kind not in "fiu":
        raise rejected(f"{name}: holds {dtype}, not numbers")


def require_small(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuses what no memory holds, before it is read.

    Raises:
        InputRejected: values of this shape take more than `MOST_BYTES`.
    """
    if (size := math.prod(shape) * dtype.itemsize) > MOST_BYTES:
        raise rejected(f"{name}: {size} bytes for values of shape {list(shape)}: are these features?")
