"""A close look at one shard file: size, hash, index and every row, in one pass over its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import numpy as np
import xxhash

from avpipe.pipeline.cache.files import Shard, ShardDamaged
from avpipe.pipeline.cache.layout import CRC_BYTES, ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.shard import checksum

ShardFault = tuple[int | None, str]
"""Row within the unit (None where it is not about one row), and what is wrong."""

_BLOCK_BYTES = 1 << 20


def inspect_shard(
    layout: Layout,
    file: CommittedFile,
    array: ArraySpec,
    unit_rows: int,
    owned: frozenset[int],
    take: Callable[[int, memoryview], None],
) -> list[ShardFault]:
    """Checks one committed shard file. Memory stays flat.

    Args:
        layout: paths of the cache.
        file: the record's entry.
        array: the array.
        unit_rows: rows of a unit.
        owned: rows within the unit that the record's clips own.
        take: called with each sound owned row and its bytes, which are overwritten afterwards.

    Returns:
        Everything that is wrong.
    """
    name = f"shard {layout.root / file.path}"
    try:
        shard = Shard(layout, file, array, unit_rows, "pread")
        with shard.path.open("rb", buffering=_BLOCK_BYTES) as stream:
            faults, digest = _pass_over(stream, shard.offsets, array, owned, take)
    except (ShardDamaged, OSError) as error:
        return [(None, f"{name} is damaged: {error}")]
    present = set(np.flatnonzero(shard.offsets >= 0).tolist())
    faults += [(row, "its index lacks a row that was committed") for row in owned - present]
    faults += [(row, "its index has a row that no clip owns") for row in present - owned]
    if not faults and digest != file.xxh3_128:
        faults.append((None, "bytes between its rows have changed; the rows are sound"))
    return [(row, f"{name}: {what}") for row, what in sorted(faults, key=lambda fault: (fault[0] is None, fault[0]))]


def _pass_over(
    stream: IO[bytes],
    offsets: np.ndarray,
    array: ArraySpec,
    owned: frozenset[int],
    take: Callable[[int, memoryview], None],
) -> tuple[list[ShardFault], str]:
    """Faults of the rows, and the hash of the whole file."""
    faults: list[ShardFault] = []
    state, position = xxhash.xxh3_128(), 0
    chunk = memoryview(bytearray(array.row_bytes + CRC_BYTES))
    data, stored = chunk[:-CRC_BYTES], chunk[-CRC_BYTES:]
    for row in sorted(np.flatnonzero(offsets >= 0).tolist(), key=offsets.__getitem__):
        if offsets[row] < position:
            faults.append((row, f"its chunk at offset {offsets[row]} overlaps another one"))
            continue
        state.update(stream.read(int(offsets[row]) - position))
        if stream.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            raise ShardDamaged("it became shorter while it was read")
        state.update(chunk)
        position = int(offsets[row]) + len(chunk)
        if checksum(data) != stored:
            faults.append((row, f"bytes at offset {offsets[row]} do not match their checksum"))
        elif row in owned:
            take(row, data)
    while block := stream.read(_BLOCK_BYTES):
        state.update(block)
    return faults, state.hexdigest()
