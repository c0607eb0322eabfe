"""What a read has to do, cut into pieces of work: rows that follow each other, in one shard and in the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from avpipe.pipeline.cache.files import Shard
from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.errors import UsageError

_LEAST_BYTES = 256 << 10
_MOST_BYTES = 4 << 20


class Stretch(NamedTuple):
    """Consecutive rows of one unit at consecutive places of the result.

    Attributes:
        unit: number of the unit.
        row: the first row, within the unit.
        place: its place in the result.
        length: number of rows.
    """

    unit: int
    row: int
    place: int
    length: int


@dataclass(slots=True)
class Piece:
    """A part of a stretch in one array.

    Attributes:
        array: the array.
        unit: number of the unit.
        row: the first row, within the unit.
        count: number of rows.
        target: uint8 [rows, bytes of a row], the part of the result to fill.
        shard: the shard, once it has been looked up.
    """

    array: ArraySpec
    unit: int
    row: int
    count: int
    target: np.ndarray
    shard: Shard | None = None


def as_rows(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rows as int64 [n].

    Raises:
        UsageError: they are no integers.
    """
    given = np.asarray(rows)
    if given.dtype.kind not in "iu" and given.size:
        remedy = "np.flatnonzero(mask) gives the rows of a mask" if given.dtype == bool else "`Cache.rows` gives them"
        raise UsageError(f"rows are integers, got {given.dtype}: {remedy}")
    return given.astype(np.int64, copy=False).reshape(-1)


def as_bytes(result: Any, array: ArraySpec, kind: np.dtype[Any], count: int) -> np.ndarray:
    """An array that is to be filled, as its bytes.

    Args:
        result: what the caller gave.
        array: the array of the cache.
        kind: its dtype.
        count: number of rows.

    Returns:
        uint8 [count, bytes of a row], the same memory.

    Raises:
        UsageError: it has another type or shape, or cannot be filled in place.
    """
    shape = (count, *array.row_shape)
    if not isinstance(result, np.ndarray):
        raise UsageError(
            f"out[{array.name!r}] must be a numpy array, got {type(result).__name__}: of a torch tensor on the CPU, "
            "give .numpy()"
        )
    if result.dtype != kind or result.shape != shape or not result.flags.carray:
        raise UsageError(
            f"out[{array.name!r}] must be a writable C-contiguous {array.dtype} array of shape {shape}, got "
            f"{result.dtype} of shape {result.shape}"
        )
    return np.ndarray((count, array.row_bytes), np.uint8, result)


def stretches(rows: np.ndarray, unit_rows: int) -> list[Stretch]:
    """Cuts rows where they stop following each other, and at units.

    Args:
        rows: int64 [n], in any order.
        unit_rows: rows of a unit.
    """
    if not len(rows):
        return []
    cuts = np.flatnonzero((rows[1:] - rows[:-1] != 1) | (rows[1:] % unit_rows == 0)) + 1
    places = np.concatenate(([0], cuts))
    counts = np.diff(places, append=len(rows))
    units, local = np.divmod(rows[places], unit_rows)
    return list(map(Stretch, units.tolist(), local.tolist(), places.tolist(), counts.tolist()))


def cut(targets: Iterable[tuple[ArraySpec, np.ndarray]], wanted: Sequence[Stretch], most_bytes: int) -> list[Piece]:
    """Pieces of a read, array by array.

    Args:
        targets: arrays and what to fill, uint8 [n, bytes of a row].
        wanted: the stretches of the n rows.
        most_bytes: no piece is larger, unless it is a single row.
    """
    pieces = []
    for array, target in targets:
        most = max(1, most_bytes // array.row_bytes)
        for unit, row, place, count in wanted:
            for done in range(0, count, most):
                some = min(most, count - done)
                begin = place + done
                pieces.append(Piece(array, unit, row + done, some, target[begin : begin + some]))
    return pieces


def piece_bytes(total_bytes: int, threads: int) -> int:
    """Bytes of a piece: small enough for threads to get equal shares, large enough to cost Python little."""
    return min(max(total_bytes // (8 * threads), _LEAST_BYTES), _MOST_BYTES)
