"""A shard file that is open for reading, with its index: mapped, or through `pread`."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np

from avpipe.pipeline.cache import copying
from avpipe.pipeline.cache.layout import CRC_BYTES, ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.shard import parse_tail, tail_bytes

FileAccess = Literal["mmap", "pread"]
Check = Literal["first", "always", "never"]

_CAN_ANNOUNCE = hasattr(os, "posix_fadvise")


class ShardDamaged(Exception):
    """A shard file is missing, damaged or not the one that was committed; the text says which, without its name.

    Args:
        what: what is wrong.
        row: the row within the unit that it is about, if it is about one.
    """

    def __init__(self, what: str, row: int | None = None) -> None:
        super().__init__(what)
        self.row = row


class Shard:
    """One shard file, open for reading.

    Attributes:
        path: the file.
        file: the record's entry.
        offsets: int64 of shape (rows of a unit): where each row's chunk begins, -1 where there is none.
        checked: bool of the same shape: rows whose checksum has been found right since the file was opened.

    Args:
        layout: paths of the cache.
        file: the record's entry.
        array: the array.
        unit_rows: rows of a unit.
        access: `mmap` maps the file, `pread` reads from it.

    Raises:
        ShardDamaged: the file is not what was committed.
    """

    def __init__(
        self, layout: Layout, file: CommittedFile, array: ArraySpec, unit_rows: int, access: FileAccess
    ) -> None:
        self.file, self.array, self._layout, self._row_bytes = file, array, layout, array.row_bytes
        self.path, self._descriptor, self.offsets = _open(layout, file, array, unit_rows)
        self.checked = np.zeros(unit_rows, dtype=bool)
        self._stride = -(-(array.row_bytes + CRC_BYTES) // array.alignment) * array.alignment
        self._runs = run_lengths((np.diff(self.offsets) == self._stride) & (self.offsets[:-1] >= 0))
        self._map = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ) if access == "mmap" else None

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def fill(self, row: int, target: np.ndarray, check: Check) -> None:
        """Copies consecutive rows.

        Args:
            row: the first row within the unit.
            target: uint8 [rows, bytes of a row], C-contiguous.
            check: which rows to compare with their checksums.

        Raises:
            ShardDamaged: a row is missing, short or changed; the target's content is undefined then.
        """
        done, count = 0, len(target)
        while done < count:
            first = row + done
            start = int(self.offsets[first])
            if start < 0:
                raise ShardDamaged("its index lacks a row that was committed", first)
            some = min(count - done, int(self._runs[first]))  # rows that follow each other in the file too
            must_check = check == "always" or (check == "first" and not self.checked[first : first + some].all())
            self._copy(first, start, target if some == count else target[done : done + some], must_check)
            done += some

    def view(self, row: int, count: int, check: Check) -> np.ndarray | None:
        """Consecutive rows where they lie in the mapped file, which stays mapped as long as the result is there.

        Args:
            row: the first row within the unit.
            count: number of rows.
            check: which rows to compare with their checksums.

        Returns:
            Read-only, (count, *row_shape); None where the rows do not lie at one distance from each other.

        Raises:
            ShardDamaged: a row is missing or changed.
        """
        assert self._map is not None
        lacking = np.flatnonzero(self.offsets[row : row + count] < 0)
        if len(lacking):
            raise ShardDamaged("its index lacks a row that was committed", row + int(lacking[0]))
        if count > self._runs[row]:
            return None
        self._require_whole()
        start = int(self.offsets[row])
        if check == "always" or (check == "first" and not self.checked[row : row + count].all()):
            good = copying.check_mapped(self._map, start, self._stride, count, self._row_bytes)
            if good < count:
                raise ShardDamaged("its bytes do not match their checksum", row + good)
            self.checked[row : row + count] = True
        kind = np.dtype(self.array.dtype).newbyteorder("<")
        strides = (self._stride, *np.empty(self.array.row_shape, kind).strides)
        return np.ndarray((count, *self.array.row_shape), kind, self._map, start, strides)

    def announce(self, row: int, count: int) -> None:
        """Tells the system that rows will be read soon, so that the disk works ahead; does not wait."""
        first, last = int(self.offsets[row]), int(self.offsets[row + count - 1])
        if 0 <= first <= last and _CAN_ANNOUNCE:
            length = last + self._row_bytes + CRC_BYTES - first
            os.posix_fadvise(self._descriptor, first, length, os.POSIX_FADV_WILLNEED)

    def checksums(self, row: int, count: int) -> list[int]:
        """The stored checksums of consecutive rows; raises `ShardDamaged`."""
        try:
            data = [os.pread(self._descriptor, CRC_BYTES, int(at) + self._row_bytes)
                    for at in self.offsets[row : row + count]]  # fmt: skip
        except OSError as error:
            raise ShardDamaged(os.strerror(error.errno or 0), row) from error
        return [int.from_bytes(crc, "little") for crc in data]

    def was_replaced(self) -> bool:
        """Whether whoever opens this shard now finds another file than the one that is open here."""
        for path in _places(self._layout, self.file):
            with suppress(OSError):
                return not os.path.samestat(os.fstat(self._descriptor), path.stat())
        return False

    def _copy(self, row: int, start: int, target: np.ndarray, check: bool) -> None:
        if self._map is not None:
            self._require_whole()
            good = copying.from_map(self._map, start, self._stride, target, check=check)
        else:
            try:
                good = copying.from_file(self._descriptor, start, self._stride, target, check=check)
            except OSError as error:
                raise ShardDamaged(os.strerror(error.errno or 0), row) from error
        if good < len(target):
            raise ShardDamaged("its bytes do not match their checksum", row + good)
        if check:
            self.checked[row : row + good] = True

    def _require_whole(self) -> None:
        """Touching mapped pages behind the end of a file kills the process, so its size is looked at each time."""
        size = os.fstat(self._descriptor).st_size
        if size < self.file.bytes:
            raise ShardDamaged(f"it has been cut while it was open: {size} of {self.file.bytes} bytes are left")


def run_lengths(joined: np.ndarray) -> np.ndarray:
    """How many rows belong together, from each row on.

    Args:
        joined: bool [n - 1], whether a row and the next one do.

    Returns:
        int64 [n], 1 or more.
    """
    ends = np.append(np.flatnonzero(~joined), len(joined))
    places = np.arange(len(joined) + 1)
    return ends[np.searchsorted(ends, places)] + 1 - places


def _places(layout: Layout, file: CommittedFile) -> tuple[Path, Path]:
    """Where a committed file may lie: where its writer left it, until it is moved to its place.

    In this order: until a repair is moved, the damaged file lies in its place, and may have its very size and stamp.
    """
    return layout.temporary(file.temporary), layout.root / file.path


def _open(layout: Layout, file: CommittedFile, array: ArraySpec, unit_rows: int) -> tuple[Path, int, np.ndarray]:
    """Opens a committed file: where it is, a descriptor, and the offsets of its rows."""
    fault: ShardDamaged | None = None
    try:
        for path in _places(layout, file):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                fault = ShardDamaged(os.strerror(error.errno or 0))
                continue
            try:
                return path, descriptor, _offsets(descriptor, file, array, unit_rows)
            except ShardDamaged as error:
                os.close(descriptor)
                fault = error
        raise fault or ShardDamaged("it is missing")
    finally:
        fault = None  # an error and the frames that it passed through would keep each other, and files, open


def _offsets(descriptor: int, file: CommittedFile, array: ArraySpec, unit_rows: int) -> np.ndarray:
    size = os.fstat(descriptor).st_size
    if size != file.bytes:
        raise ShardDamaged(f"it has {size} bytes, {file.bytes} were committed")
    tail = tail_bytes(unit_rows)
    try:
        data = os.pread(descriptor, tail, size - tail)
        return parse_tail(data, row_bytes=array.row_bytes, file_bytes=size, stamp=file.stamp)
    except (OSError, ValueError) as error:
        raise ShardDamaged(str(error)) from error
