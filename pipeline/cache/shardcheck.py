"""A close look at one shard file: size, hash, index and every row, in one pass over its bytes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from avpipe.pipeline.cache.layout import CRC_BYTES, ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.shard import checksum, parse_tail, tail_bytes, usual_tail

ShardFault = tuple[int | None, str]
"""Row within the unit (None where it is not about one row), and what is wrong."""

State = Literal["open", "missing", "opaque", "unreadable"]
"""`open`: its rows can be told apart; `missing`: there is no such file; `opaque`: its size or its index is wrong, and
what rows it has cannot be known; `unreadable`: the system does not let us read it, and its bytes may be sound."""

_BLOCK_BYTES = 1 << 20


@dataclass
class ShardLook:
    """What a look at a shard file found.

    Attributes:
        path: the file.
        state: whether it could be read.
        offsets: int64 [rows of a unit]: where each row's chunk begins, -1 where there is none.
        faults: everything that is wrong.
    """

    path: Path
    state: State = "open"
    offsets: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    faults: list[ShardFault] = field(default_factory=list)

    def fail(self, state: State, what: str) -> None:
        """Notes what makes the whole file useless."""
        self.state = state
        self.faults = [(None, f"shard {self.path} is damaged: {what}")]


def inspect_shard(
    layout: Layout,
    file: CommittedFile,
    array: ArraySpec,
    unit_rows: int,
    owned: frozenset[int],
    take: Callable[[int, memoryview], None],
) -> ShardLook:
    """Checks one committed shard file. Memory stays flat.

    Args:
        layout: paths of the cache.
        file: the record's entry.
        array: the array.
        unit_rows: rows of a unit.
        owned: rows within the unit that the record's clips own.
        take: called with each sound owned row and its bytes, which are overwritten afterwards.
    """
    look = ShardLook(layout.root / file.path)
    try:
        look.path, descriptor = _open(layout, file)
    except FileNotFoundError:
        look.fail("missing", "it is missing")
        return look
    except OSError as error:
        look.fail("unreadable", f"it cannot be opened: {os.strerror(error.errno or 0)}")
        return look
    try:
        _Inspection(look, descriptor, file, array, unit_rows, owned).run(take)
    except OSError as error:
        look.fail("unreadable", f"it cannot be read: {os.strerror(error.errno or 0)}")
    finally:
        os.close(descriptor)
    return look


def read_row(path: Path, offset: int, target: np.ndarray) -> bool:
    """Reads a row and compares it with its checksum.

    Args:
        path: the shard file.
        offset: where the row's chunk begins.
        target: uint8 [bytes of a row], filled.

    Returns:
        False where it is short or does not match.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stored = bytearray(CRC_BYTES)
        whole = os.preadv(descriptor, [target.data, stored], offset) == len(target) + CRC_BYTES
        return whole and checksum(target) == stored
    finally:
        os.close(descriptor)


def _open(layout: Layout, file: CommittedFile) -> tuple[Path, int]:
    """A committed file that still lies where its writer left it is the one; else it is in its place."""
    final = layout.root / file.path
    for path in (layout.temporary(file.temporary), final):
        try:
            return path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(final))


class _Inspection:
    def __init__(
        self,
        look: ShardLook,
        descriptor: int,
        file: CommittedFile,
        array: ArraySpec,
        unit_rows: int,
        owned: frozenset[int],
    ) -> None:
        self._look, self._descriptor, self._file = look, descriptor, file
        self._array, self._unit_rows, self._owned = array, unit_rows, owned
        self._state = xxhash.xxh3_128()

    def run(self, take: Callable[[int, memoryview], None]) -> None:
        look, status = self._look, os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            look.fail("unreadable", "something else lies in its place, such as a folder: move it away")
            return
        size = status.st_size
        if size != self._file.bytes:
            look.fail("opaque", f"it has {size} bytes, {self._file.bytes} were committed")
            return
        tail = size - tail_bytes(self._unit_rows)
        data = self._read(max(tail, 0), size - max(tail, 0))
        try:
            look.offsets = parse_tail(data, row_bytes=self._array.row_bytes, file_bytes=size, stamp=self._file.stamp)
        except ValueError as error:
            if self._hash(size) == self._file.xxh3_128:
                look.fail(
                    "unreadable", f"it is what was committed, but not what the ledger says of its array ({error})"
                )
                return
            if not self._is_usual(tail):
                look.fail("opaque", str(error))
                return
            look.faults.append((None, f"{error}; the rows are sound"))
        self._pass_over(take)
        present = set(np.flatnonzero(look.offsets >= 0).tolist())
        look.faults += [(row, "its index lacks a row that was committed") for row in self._owned - present]
        whole = self._state.hexdigest() == self._file.xxh3_128
        if whole and present - self._owned:
            look.fail("unreadable", "it is what was committed, but has rows that the ledger gives to no clip")
            return
        look.faults += [(row, "its index has a row that no clip owns") for row in present - self._owned]
        if not look.faults and not whole:
            look.faults.append((None, "bytes between its rows have changed; the rows are sound"))
        order = sorted(look.faults, key=lambda fault: (fault[0] is None, fault[0] or 0))
        look.faults = [(row, f"shard {look.path}: {what}") for row, what in order]

    def _is_usual(self, end: int) -> bool:
        """Whether the rows before a damaged tail are all sound and lie as writers put them: then the index is known.

        With the tail that they would have, the file must have the hash that was committed.
        """
        offsets, tail = usual_tail(self._array, self._unit_rows, self._owned, self._file.stamp)
        if self._hash(end, tail) != self._file.xxh3_128:
            return False
        self._look.offsets = offsets
        return True

    def _hash(self, end: int, tail: bytes = b"") -> str:
        """XXH3-128 of the file up to `end`, and of `tail` behind it."""
        state, position = xxhash.xxh3_128(), 0
        while block := self._read(position, min(_BLOCK_BYTES, end - position)):
            state.update(block)
            position += len(block)
        state.update(tail)
        return state.hexdigest()

    def _pass_over(self, take: Callable[[int, memoryview], None]) -> None:
        """Reads the file from front to end, row by row where it has rows."""
        offsets, position = self._look.offsets, 0
        chunk = memoryview(bytearray(self._array.row_bytes + CRC_BYTES))
        data, stored = chunk[:-CRC_BYTES], chunk[-CRC_BYTES:]
        for row in sorted(np.flatnonzero(offsets >= 0).tolist(), key=offsets.__getitem__):
            at = int(offsets[row])
            if at < position:
                self._look.faults.append((row, f"its chunk at offset {at} overlaps another one"))
                continue
            self._state.update(self._read(position, at - position))
            position = at + len(chunk)
            if not self._read_chunk(chunk, at):
                self._look.faults.append((row, f"the disk cannot read its bytes at offset {at}"))
            elif checksum(data) != stored:
                self._look.faults.append((row, f"bytes at offset {at} do not match their checksum"))
            elif row in self._owned:
                take(row, data)
            self._state.update(chunk)
        while block := self._read(position, _BLOCK_BYTES):
            self._state.update(block)
            position += len(block)

    def _read_chunk(self, chunk: memoryview, offset: int) -> bool:
        """False where the disk reports an error for these bytes; other errors are not about them."""
        try:
            return os.preadv(self._descriptor, [chunk], offset) == len(chunk)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False

    def _read(self, offset: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, offset) if count else b""
