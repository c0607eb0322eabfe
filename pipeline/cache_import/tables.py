"""Many clips in one file, a clip a row: `.h5`, `.npy` or `.npz`. Rows are read one by one, never the whole file."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from avpipe.pipeline.cache_import.npy import WHOLE_BYTES, NpyRows, rejected, require_npy, require_numbers, require_small
from avpipe.pipeline.errors import InputRejected, UsageError

SUFFIXES = (".h5", ".hdf5", ".npy", ".npz")
USUAL_KEY = "avadataset"
"""Key of the values in the files that AVE's authors release."""
IDS = "ids"
_CHUNK_CACHE_BYTES = 64 * 2**20


class Table(Protocol):
    """Features of many clips.

    Attributes:
        shape: `[clips, rows of a clip, ...]`.
        ids: name of the clip in each row, None where the file does not say.
    """

    shape: tuple[int, ...]
    ids: tuple[str, ...] | None

    def read(self, row: int) -> np.ndarray:
        """Values of one row.

        Raises:
            InputRejected: they cannot be read.
        """

    def close(self) -> None:
        """Closes the file."""


def open_table(path: Path) -> Table:
    """Opens a file of many clips.

    Raises:
        UsageError: it cannot be used; says why.
    """
    try:
        if path.suffix == ".npy":
            return NpyTable(path, path.open("rb"))
        return open_npz(path) if path.suffix == ".npz" else H5Table(path)
    except InputRejected as error:
        raise UsageError(str(error)) from error
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}): fetch the file again") from error


class NpyTable:
    """An npy array whose first axis is the clips."""

    def __init__(
        self, path: Path, file: BinaryIO, start: int = 0, size: int | None = None, ids: tuple[str, ...] | None = None
    ) -> None:
        self._file, self.ids = file, ids
        try:
            if size is None:
                require_npy(path, file)
            end = file.seek(0, io.SEEK_END) if size is None else start + size
            self._rows = NpyRows(file, str(path), start, end)
            self.shape = _require_clips(path, self._rows.shape)
        except BaseException:
            file.close()
            raise

    def read(self, row: int) -> np.ndarray:
        """Values of one row."""
        values: np.ndarray = self._rows.read(row, row + 1)[0]
        return values

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def open_npz(path: Path) -> NpyTable:
    """An npz file with `ids` and one other array.

    Arrays that are not compressed are read in place; compressed ones are held in memory, up to 256 MiB.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = members[_only_values(path, [name for name in members if name != IDS], "arrays")]
        ids = _npz_ids(path, archive, members[IDS]) if IDS in members else None
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > WHOLE_BYTES:
                raise rejected(f"{path}: compressed, so that its rows cannot be read one by one", "use numpy.savez")
            return NpyTable(path, io.BytesIO(archive.read(info)), 0, info.file_size, ids)
    file = path.open("rb")
    file.seek(info.header_offset)
    name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(30))  # sizes in the member's own header
    return NpyTable(path, file, info.header_offset + 30 + name_bytes + extra_bytes, info.file_size, ids)


def _npz_ids(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[str, ...]:
    if info.file_size > WHOLE_BYTES:
        raise rejected(f"{path}: {IDS!r} takes {info.file_size} bytes: is it a list of clips?")
    try:
        values = np.load(io.BytesIO(archive.read(info)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise rejected(f"{path}: {IDS!r} is no plain array ({error})", "save the ids as an array of text") from error
    return _texts(path, values)


class H5Table:
    """An HDF5 file with one data set of values, and maybe one of ids."""

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        self._file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CHUNK_CACHE_BYTES)
        try:
            sets = self._own_sets(h5py)
            ids, names = sets.pop(IDS, None), sorted(sets)
            name = USUAL_KEY if USUAL_KEY in sets else _only_values(path, names, "data sets")
            self._values = sets[name]
            require_numbers(str(path), self._values.dtype)
            self.shape = _require_clips(path, self._values.shape)
            require_small(f"{path}: one clip", self.shape[1:], self._values.dtype)
            if ids is not None and ids.size * ids.dtype.itemsize > WHOLE_BYTES:
                raise rejected(f"{path}: {IDS!r} takes {ids.size * ids.dtype.itemsize} bytes: is it a list of clips?")
            self.ids = None if ids is None else _texts(path, np.asarray(ids[()]))
        except BaseException:
            self._file.close()
            raise

    def read(self, row: int) -> np.ndarray:
        """Values of one row."""
        try:
            values: np.ndarray = self._values[row]
        except (OSError, RuntimeError) as error:
            raise rejected(f"{self._path} row {row}: cannot be read ({error})", "fetch the file again") from error
        return values

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _own_sets(self, h5py: Any) -> dict[str, Any]:
        """Data sets whose values lie in this file: links and outside storage would open whatever they name."""
        found = {}
        for name in self._file:
            if isinstance(self._file.get(name, getlink=True), h5py.HardLink):
                member = self._file[name]
                if isinstance(member, h5py.Dataset) and not member.is_virtual and not member.external:
                    found[name] = member
        return found


def _only_values(path: Path, names: list[str], what: str) -> str:
    if len(names) != 1:
        held = ", ".join(map(repr, names)) or "none"
        raise rejected(f"{path}: expected {USUAL_KEY!r} or one of {what} beside {IDS!r}, found {held}")
    return names[0]


def _require_clips(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 3:
        raise rejected(f"{path}: shape {list(shape)}, expected [clips, segments, ..., channels]")
    return shape


def _texts(path: Path, values: np.ndarray) -> tuple[str, ...]:
    listed = values.tolist()
    if values.ndim != 1 or not all(isinstance(value, str | bytes) for value in listed):
        raise rejected(f"{path}: {IDS!r} is no list of text", "give one id for each row")
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else value for value in listed)
