"""Reading through zarr-python: slow, but other people's code, which makes it a second opinion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.cache.layout import ArraySpec


class ZarrArrays:
    """The arrays of a cache as zarr-python opens them.

    Args:
        root: folder of the cache.
        unit_rows: rows of a unit.
    """

    def __init__(self, root: Path, unit_rows: int) -> None:
        self._root, self._unit_rows = root, unit_rows
        self._open: dict[str, Any] = {}

    def finds(self, path: Path, array: ArraySpec, unit: int) -> bool:
        """Whether a shard file lies where a Zarr reader looks for it."""
        return path == self._root / array.shard_key(unit)

    def read(self, array: ArraySpec, unit: int, row: int, target: np.ndarray) -> None:
        """Reads consecutive rows; what is missing comes as fill values.

        Args:
            array: the array.
            unit: number of the unit.
            row: the first row, within the unit.
            target: uint8 [rows, bytes of a row], to be filled.
        """
        import zarr  # here, because importing it takes a while

        if array.name not in self._open:
            self._open[array.name] = zarr.open_array(self._root / array.name, mode="r")
        first = unit * self._unit_rows + row
        values = np.ascontiguousarray(self._open[array.name][first : first + len(target)], array.dtype)
        target[:] = values.reshape(-1).view(np.uint8).reshape(target.shape)
