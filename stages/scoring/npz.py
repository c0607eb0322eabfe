"""Arrays in an npz file, read row by row, so that memory holds one sample and not the whole file.

Nothing is unpickled. Members may be stored or compressed.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from avpipe.pipeline.errors import UsageError
from avpipe.stages.best import SELECTIONS

Values = npt.NDArray[Any]
WHOLE_BYTES = 1 << 30
"""Largest array that is read at once, where it has to be, and the most that the rows of one sample may take."""
_PASSED_OVER = 1 << 20
"""Bytes at once of what is not looked at."""


class Stored:
    """One array of an archive, of which the next rows can be taken.

    Attributes:
        name: its name in the archive.
        shape: its shape; rows lie along the first axis, or the first two (see `rows_of`).
        dtype: its type.
    """

    def __init__(self, archive: Archive, name: str, file: IO[bytes]) -> None:
        self.archive, self.name, self._file = archive, name, file
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array {name!r} is in version {version} of numpy's format")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        try:
            self.shape, self._fortran, self.dtype = header(file)
        except (SyntaxError, tokenize.TokenError, MemoryError, TypeError, OverflowError) as error:
            raise ValueError(f"array {name!r} has a damaged header: {error}") from error
        if self.dtype.hasobject or self.dtype.names:
            raise ValueError(f"array {name!r} holds Python objects or records, which are not read: save plain numbers")
        self._whole: Values | None = None
        self._at = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def all(self) -> Values:
        """The whole array; call it before `take`."""
        if self.nbytes > WHOLE_BYTES:
            how = "save it in C order (numpy.ascontiguousarray)" if self._fortran else "it is too large to be one"
            raise ValueError(f"array {self.name!r} has {self.nbytes} bytes: {how}")
        flat = np.frombuffer(self._exactly(self.nbytes), self.dtype)
        return flat.reshape(self.shape, order="F" if self._fortran else "C")

    def take(self, count: int, row: tuple[int, ...], skip: int = 0) -> Values:
        """The next rows.

        Args:
            count: how many.
            row: shape of a row.
            skip: rows to leave out behind them.

        Returns:
            `[count, *row]`.

        Raises:
            ValueError: the rows take more than `WHOLE_BYTES`, or the file ends before them.
        """
        size = math.prod(row)
        if count * size * self.dtype.itemsize > WHOLE_BYTES:
            raise ValueError(
                f"array {self.name!r} of shape {self.shape} has {count * size * self.dtype.itemsize} bytes for one "
                f"sample, {WHOLE_BYTES} is the most"
            )
        if self._fortran and len(self.shape) > 1:
            if self._whole is None:
                self._whole = self.all().reshape(-1)  # in C order, as rows are counted
            found = self._whole[self._at : self._at + count * size]
            self._at += (count + skip) * size
            return found.reshape(count, *row)
        data = self._exactly(count * size * self.dtype.itemsize)
        self._pass_over(skip * size * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(count, *row)

    def _pass_over(self, count: int) -> None:
        for start in range(0, count, _PASSED_OVER):
            self._exactly(min(_PASSED_OVER, count - start))

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count) if count else b""
        if len(data) != count:
            raise ValueError(f"array {self.name!r} ends early: the file is cut off or damaged")
        return data


class Archive:
    """An open npz file; use it in a `with` block, and its arrays inside `reading`.

    Raises:
        UsageError: it is no npz file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self._zip = zipfile.ZipFile(path)
        self.names = frozenset(n.removesuffix(".npy") for n in self._zip.namelist() if n.endswith(".npy"))

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def open(self, name: str) -> Stored:
        """Array `name`, at its first row.

        Raises:
            UsageError: it cannot be read.
        """
        with reading(self.path):
            info = self._zip.getinfo(f"{name}.npy")
            file = self._zip.open(info)
            stored = Stored(self, name, file)
            if stored.nbytes + file.tell() != info.file_size:
                raise ValueError(f"array {name!r} has other bytes than its shape {stored.shape} needs")
        return stored

    def whole(self, name: str) -> Values:
        """Array `name` at once, for those that are small.

        Raises:
            UsageError: it cannot be read.
        """
        stored = self.open(name)
        with reading(self.path):
            return stored.all()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Says of everything that may go wrong in a damaged archive which file it is.

    Raises:
        UsageError: in place of what zipfile, zlib and numpy raise.
    """
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def selection_of(path: Path) -> str | None:
    """The split on which the epoch was chosen that made the predictions (`val`, `test`, `last`), by array `selection`.

    None where that is not there, and for files other than npz.

    Raises:
        UsageError: it says something else.
    """
    if path.suffix.lower() != ".npz":
        return None
    with Archive(path) as archive:
        if "selection" not in archive.names:
            return None
        found = archive.whole("selection")
    word = str(found.item()) if found.dtype.kind == "U" and found.size == 1 else ""
    if word not in SELECTIONS:
        raise UsageError(f"{path}: array 'selection' must be one of the texts {', '.join(SELECTIONS)}")
    return word
