"""Shard files: a Zarr v3 sharded chunk written row by row, and its index.

A shard is the rows of one unit in one array: chunks (raw little-endian bytes, CRC32C behind each) in any order, then
the stamp, then the index (offset and size of every row's chunk, two little-endian uint64 each, all ones where there is
none), then the index's CRC32C.

The stamp is a hash of all the rest, of the array's name and of the unit, and the commit record holds it too. It lies
where the index is read anyway, so whoever opens a shard knows at no cost whether it is the file that was committed:
two shards of one array may have the same size, the same index and sound rows, and yet be each other's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import xxhash

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.layout import CRC_BYTES, INDEX_ENTRY_BYTES, ArraySpec
from avpipe.pipeline.cache.stream import Stream

MISSING = 2**64 - 1
STAMP_BYTES = 16


def checksum(data: Any) -> bytes:
    """CRC32C of a buffer as four little-endian bytes."""
    value: int = crc32c.crc32c(data)
    return value.to_bytes(CRC_BYTES, "little")


def tail_bytes(unit_rows: int) -> int:
    """Size of a shard's stamp and index with its checksum, the end of the file."""
    return STAMP_BYTES + unit_rows * INDEX_ENTRY_BYTES + CRC_BYTES


def parse_tail(data: bytes, *, row_bytes: int, file_bytes: int, stamp: str) -> np.ndarray:
    """Offsets of the rows' chunks.

    Args:
        data: the last `tail_bytes(...)` bytes of the shard.
        row_bytes: bytes of one row without its checksum.
        file_bytes: size of the shard file.
        stamp: the stamp that was committed, hexadecimal.

    Returns:
        int64 of shape (rows of a unit), -1 where the unit has no such row.

    Raises:
        ValueError: says what is wrong with the stamp or the index.
    """
    found, body, tail = data[:STAMP_BYTES], data[STAMP_BYTES:-CRC_BYTES], data[-CRC_BYTES:]
    if checksum(body) != tail:
        raise ValueError("the checksum of its index does not match")
    if found.hex() != stamp:
        raise ValueError("its stamp is not the one that was committed: it is another shard's file, or was changed")
    entries = np.frombuffer(body, dtype="<u8").reshape(-1, 2)
    present = entries[:, 0] != MISSING
    stored = entries[present]
    chunk_bytes = row_bytes + CRC_BYTES
    if (stored[:, 1] != chunk_bytes).any() or (stored[:, 0] > max(file_bytes - len(data) - chunk_bytes, 0)).any():
        raise ValueError("its index points outside the file")
    return np.where(present, entries[:, 0].astype(np.int64), -1)


def usual_tail(array: ArraySpec, unit_rows: int, rows: Iterable[int], stamp: str) -> tuple[np.ndarray, bytes]:
    """The end of a shard whose rows were written in order, none of them dropped.

    Args:
        array: the array.
        unit_rows: rows of a unit.
        rows: rows within the unit that it has.
        stamp: its stamp, hexadecimal.

    Returns:
        Offsets of the rows' chunks, int64 [unit_rows], -1 where there is none; and stamp, index and checksum.
    """
    offsets, position = np.full(unit_rows, -1, dtype=np.int64), 0
    index = np.full((unit_rows, 2), MISSING, dtype="<u8")
    for row in sorted(rows):
        position += -position % array.alignment
        offsets[row] = position
        index[row] = position, array.row_bytes + CRC_BYTES
        position += array.row_bytes + CRC_BYTES
    body = index.tobytes()
    return offsets, bytes.fromhex(stamp) + body + checksum(body)


class ShardWriter:
    """Streams rows of one shard into a temporary file; memory stays flat.

    Args:
        path: the temporary; must not exist.
        array: the array.
        unit: number of the unit.
        unit_rows: rows of a unit.
    """

    def __init__(self, path: Path, array: ArraySpec, unit: int, unit_rows: int) -> None:
        self.path, self.array, self._unit, self._alignment = path, array, unit, array.alignment
        self._index = np.full((unit_rows, 2), MISSING, dtype="<u8")
        self._position = 0
        self._hash = xxhash.xxh3_128()
        self._stream = Stream(path)

    def write(self, row: int, data: memoryview) -> None:
        """Appends the chunk of a row.

        Args:
            row: row within the unit, not written before.
            data: its `array.row_bytes` bytes, little-endian.
        """
        gap = bytes(-self._position % self._alignment)
        self._index[row] = self._position + len(gap), len(data) + CRC_BYTES
        self._append(gap, data, checksum(data))

    def has(self, row: int) -> bool:
        """Whether a row of the unit has been written."""
        return bool(self._index[row, 0] != MISSING)

    def drop(self, rows: Iterable[int]) -> None:
        """Takes rows out of the index, so that no reader finds them; their bytes stay as a gap."""
        for row in rows:
            self._index[row] = MISSING

    def finish(self) -> tuple[int, str, str]:
        """Writes the stamp and the index, syncs and closes.

        Returns:
            The file's size in bytes, its xxh3_128 and its stamp, both hexadecimal.
        """
        index = self._index.tobytes()
        index += checksum(index)
        stamp = self._hash.copy()
        stamp.update(index + self.array.name.encode() + b"\0" + self._unit.to_bytes(8, "little"))
        self._append(stamp.digest())
        self._append(index)
        self._stream.sync()
        self._stream.close()
        return self._position, self._hash.hexdigest(), stamp.hexdigest()

    def discard(self) -> None:
        """Closes and deletes the temporary."""
        self._stream.close()
        durable.remove(self.path)

    def _append(self, *parts: bytes | memoryview) -> None:
        self._stream.write(*parts)
        for part in parts:
            self._hash.update(part)
            self._position += len(part)
