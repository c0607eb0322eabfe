"""Arithmetic before the run: how large a unit of work is, how many bytes a cache will take."""

from __future__ import annotations

from collections.abc import Sequence
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


def estimate(segments: Sequence[int], arrays: Sequence[ArraySpec]) -> dict[str, Any]:
    """What a cache of these clips takes: bytes per array and in all, before indices and alignment.

    Returns:
        JSON-ready: `clips`, `segments`, `bytes`, `bytes_per_segment`, `arrays` (name, row_shape, dtype, bytes).
    """
    rows = sum(segments)
    listed = [
        {"name": a.name, "row_shape": list(a.row_shape), "dtype": a.dtype, "bytes": a.row_bytes * rows} for a in arrays
    ]
    row_bytes = sum(a.row_bytes for a in arrays)
    return {
        "clips": len(segments),
        "segments": rows,
        "bytes": row_bytes * rows,
        "bytes_per_segment": row_bytes,
        "arrays": listed,
    }
