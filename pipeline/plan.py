"""Arithmetic before the run: how large a unit of work is, how many bytes a cache will take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avpipe.pipeline.cache import ArraySpec

UNIT_BYTES = 512 * 2**20
"""Most bytes of one unit over all its arrays."""
UNIT_SECONDS = 60.0
"""Most measured work in one unit: what a crash can cost one worker."""
LEAST_UNITS = 20
"""Units that a dataset is cut into at least, unless it has fewer clips: progress and resuming stay fine-grained."""


def unit_rows(segments: Sequence[int], row_bytes: int, row_seconds: float | None) -> int:
    """Rows in one unit, a whole number of the longest clip.

    Args:
        segments: segments of every clip of the dataset.
        row_bytes: bytes of one row over all arrays.
        row_seconds: measured seconds of work for one row, None where nothing could be measured.
    """
    longest = max(segments, default=1)
    limits = [UNIT_BYTES / max(1, row_bytes), -(-sum(segments) // LEAST_UNITS)]
    if row_seconds:
        limits.append(UNIT_SECONDS / row_seconds)
    return max(1, int(min(limits)) // longest) * longest


def estimate(
    segments: Mapping[str, int], arrays: Sequence[ArraySpec], held: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """What an extraction would write: bytes per array and in all, before indices and alignment.

    Args:
        segments: segments of every clip by id.
        arrays: the arrays wanted.
        held: clips that the cache holds already, by array.

    Returns:
        JSON-ready: `clips` (that lack something), `bytes`, `bytes_per_segment` (of a clip that lacks everything),
        `arrays` (name, row_shape, dtype, segments, bytes).
    """
    listed, lacking = [], set()
    for array in arrays:
        left = [clip for clip in segments if clip not in held.get(array.name, ())]
        lacking.update(left)
        rows = sum(segments[clip] for clip in left)
        about = {"name": array.name, "row_shape": list(array.row_shape), "dtype": array.dtype}
        listed.append(about | {"segments": rows, "bytes": array.row_bytes * rows})
    return {
        "clips": len(lacking),
        "bytes": sum(entry["bytes"] for entry in listed),
        "bytes_per_segment": sum(array.row_bytes for array in arrays),
        "arrays": listed,
    }
