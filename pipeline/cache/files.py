"""Open shard files for reading, with their indexes: mapped, or through `pread`."""

from __future__ import annotations

import mmap
import os
import resource
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal

import numpy as np

from avpipe.pipeline.cache.layout import CRC_BYTES, ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.shard import checksum, parse_tail, tail_bytes

Access = Literal["mmap", "pread"]


class ShardDamaged(Exception):
    """A shard file is missing, damaged or not the one that was committed; the text says which, without its name."""


class Shard:
    """One shard file, open for reading.

    Attributes:
        path: the file.
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

    def __init__(self, layout: Layout, file: CommittedFile, array: ArraySpec, unit_rows: int, access: Access) -> None:
        self.path, self._descriptor = _open(layout, file)
        self._row_bytes = array.row_bytes
        size = os.fstat(self._descriptor).st_size
        if size != file.bytes:
            raise ShardDamaged(f"it has {size} bytes, {file.bytes} were committed")
        tail = tail_bytes(unit_rows)
        try:
            data = os.pread(self._descriptor, tail, size - tail)
            self.offsets = parse_tail(data, row_bytes=array.row_bytes, file_bytes=size, stamp=file.stamp)
        except (OSError, ValueError) as error:
            raise ShardDamaged(str(error)) from error
        self.checked = np.zeros(unit_rows, dtype=bool)
        self._map: np.ndarray | None = None
        if access == "mmap":
            self._map = np.frombuffer(mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ), dtype=np.uint8)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def copy_row(self, row: int, target: np.ndarray, *, check: bool) -> bool:
        """Copies the bytes of a row.

        Args:
            row: row within the unit; it has a chunk.
            target: uint8 of shape (bytes of a row).
            check: compare the copy with its checksum.

        Returns:
            False where the copy is short or does not match its checksum.
        """
        offset, count = int(self.offsets[row]), self._row_bytes
        if self._map is not None:
            target[:] = self._map[offset : offset + count]
            return not check or checksum(target) == self._map[offset + count : offset + count + CRC_BYTES].tobytes()
        try:
            if os.preadv(self._descriptor, [target.data], offset) != count:
                return False
            return not check or checksum(target) == os.pread(self._descriptor, CRC_BYTES, offset + count)
        except OSError:
            return False


class OpenShards:
    """Keeps shards open, the least recently used of them closed first. Safe to share between threads."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A mapped file keeps its descriptor; half of what the process may open stays free for others.
        self._limit = min(max(soft // 2, 16), 4096) if soft != resource.RLIM_INFINITY else 4096
        self._shards: OrderedDict[tuple[str, int, Access], Shard] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, layout: Layout, file: CommittedFile, array: ArraySpec, unit: int, unit_rows: int, access: Access
    ) -> Shard:
        """The shard of a committed file, opened if need be; raises `ShardDamaged`."""
        key = (array.name, unit, access)
        with self._lock:
            shard = self._shards.get(key)
            if shard is None:
                shard = self._shards[key] = Shard(layout, file, array, unit_rows, access)
                if len(self._shards) > self._limit:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(key)
        return shard


def _open(layout: Layout, file: CommittedFile) -> tuple[Path, int]:
    """Opens a committed file where it belongs, or else where its writer left it (committed, but not published yet)."""
    final = layout.root / file.path
    for path in (final, layout.temporary(file.temporary), final):  # the last: it may be published in between
        try:
            return path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ShardDamaged(os.strerror(error.errno or 0)) from error
    raise ShardDamaged("it is missing")
