"""A close look at one shard file: size, hash, index and every row."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import xxhash

from avpipe.pipeline.cache.files import Shard, ShardDamaged
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile

ShardFault = tuple[int | None, str]
"""Row within the unit (None where it is not about one row), and what is wrong."""

_BLOCK_BYTES = 4 << 20


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
        digest = _digest(shard)
    except (ShardDamaged, OSError) as error:
        return [(None, f"{name} is damaged: {error}")]
    faults: list[ShardFault] = []
    data = np.empty(array.row_bytes, dtype=np.uint8)
    present = set(np.flatnonzero(shard.offsets >= 0).tolist())
    for row in sorted(present | owned):
        if row not in present:
            faults.append((row, f"{name}: its index lacks a row that was committed"))
        elif row not in owned:
            faults.append((row, f"{name}: its index has a row that no clip owns"))
        elif not shard.copy_row(row, data, check=True):
            faults.append((row, f"{name}: bytes at offset {shard.offsets[row]} do not match their checksum"))
        else:
            take(row, data.data)
    if not faults and digest != file.xxh3_128:
        faults.append((None, f"{name}: bytes between its rows have changed; the rows are sound"))
    return faults


def _digest(shard: Shard) -> str:
    state = xxhash.xxh3_128()
    with shard.path.open("rb", buffering=0) as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while block := stream.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()
