"""Making the damaged rows of a clip again, as far as they can be made, from what is still sound."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.records import CommittedClip
from avpipe.pipeline.cache.scan import ShardScan
from avpipe.pipeline.cache.shardcheck import read_row
from avpipe.pipeline.errors import AvpipeError, InputRejected

Values = Mapping[str, np.ndarray]
RAW_TAPS = ("frames", "samples")
"""What taps are made from: stored beside them, one of each modality."""


@dataclass(frozen=True)
class Remade:
    """Features that were made again.

    Attributes:
        values: array name -> [T, *row_shape].
        provenance: what made them.
        doubt: why they may not be those that were lost, such as media files with another time stamp; "" where nothing
            speaks against it. Doubtful ones are taken only if the clip's content proves them.
    """

    values: dict[str, np.ndarray]
    provenance: dict[str, str]
    doubt: str = ""


class Remake(Protocol):
    """Makes the features of a clip again."""

    def __call__(self, clip: CommittedClip, arrays: Collection[str], raw: Values) -> Remade:
        """Features of all of `arrays`.

        Args:
            clip: the clip as it was committed.
            arrays: names of the arrays wanted, all of one modality, such as `visual/blocks.3`.
            raw: stored frames and samples to make them from, by array name, [T, ...]; what is not here is decoded.

        Raises:
            InputRejected: it cannot be done.
        """


class ClipMaker:
    """Makes rows of the clips of one unit again.

    Attributes:
        provenance: clip -> what made its rows.
        doubts: clip -> modality -> why its rows may not be those that were lost.
        failed: clip -> why some of its rows could not be made.

    Args:
        ledger: the ledger.
        scans: a scan of each shard of the unit.
        remake: makes features again.
    """

    def __init__(self, ledger: Ledger, scans: list[ShardScan], remake: Remake) -> None:
        self._ledger, self._scans, self._remake = ledger, scans, remake
        self._base = scans[0].unit * ledger.unit_rows
        self.provenance: dict[str, dict[str, str]] = {}
        self.doubts: dict[str, dict[str, str]] = {}
        self.failed: dict[str, str] = {}

    def make(self, clip: CommittedClip) -> dict[str, tuple[np.ndarray, set[int]]]:
        """New values of a clip for every shard in which it has damaged rows, and the rows that they are for.

        Each modality is made for itself: what one lacks is no reason to go without the other.
        """
        rows = set(self.rows_of(clip))
        wanted = [self._ledger.arrays[scan.file.array] for scan in self._scans if scan.damaged & rows]
        made: dict[str, tuple[np.ndarray, set[int]]] = {}
        for modality in sorted({array.modality for array in wanted}):
            arrays = [array for array in wanted if array.modality == modality]
            try:
                values, good = self._remade(clip, arrays, {}), rows
            except InputRejected as error:
                self.failed[clip.id] = str(error)
                arrays = [array for array in arrays if array.tap not in RAW_TAPS]
                values, good = self._from_what_is_left(clip, arrays)
            made |= {array.name: (values[array.name], good) for array in arrays if good}
        return made

    def _remade(self, clip: CommittedClip, arrays: list[ArraySpec], raw: Values) -> dict[str, np.ndarray]:
        whole = {name: values for name, (values, good) in self._raw(clip).items() if len(good) == clip.segments}
        remade = self._remake(clip, {array.name for array in arrays}, {**whole, **raw})
        for array in arrays:
            _require_storable(remade.values[array.name], array, clip)
        self.provenance.setdefault(clip.id, {}).update(remade.provenance)
        if remade.doubt:
            self.doubts.setdefault(clip.id, {})[arrays[0].modality] = remade.doubt
        return remade.values

    def _from_what_is_left(
        self, clip: CommittedClip, arrays: list[ArraySpec]
    ) -> tuple[dict[str, np.ndarray], set[int]]:
        """Taps of the segments whose frame or sound is still sound; a segment's features do not depend on others."""
        stored = {name: part for name, part in self._raw(clip).items() if part[1]}
        parts = [stored[f"{array.modality}/{tap}"] for array in arrays[:1] for tap in RAW_TAPS
                 if f"{array.modality}/{tap}" in stored]  # fmt: skip
        if not parts:
            return {}, set()
        with suppress(InputRejected):
            raw = {name: values for name, (values, _) in stored.items()}
            return self._remade(clip, arrays, raw), parts[0][1]
        return {}, set()

    def _raw(self, clip: CommittedClip) -> dict[str, tuple[np.ndarray, set[int]]]:
        """Stored frames and samples of a clip, zeros where they are damaged, and the rows that are sound."""
        found = {}
        for scan in self._scans:
            array, rows = self._ledger.arrays[scan.file.array], self.rows_of(clip)
            good = set(rows) & scan.sound
            if array.tap in RAW_TAPS and set(rows) <= scan.owners.keys():
                data = np.zeros((clip.segments, array.row_bytes), dtype=np.uint8)
                for segment, row in enumerate(rows):
                    if row in good:
                        data[segment] = self.copy(scan, row)
                values = data.view(np.dtype(array.dtype).newbyteorder("<")).reshape(clip.segments, *array.row_shape)
                found[array.name] = values, good
        return found

    def rows_of(self, clip: CommittedClip) -> range:
        """A clip's rows within the unit."""
        first = clip.start - self._base
        return range(first, first + clip.segments)

    def copy(self, scan: ShardScan, row: int) -> np.ndarray:
        """A row that was found sound, read and checked again: uint8 [bytes of a row]."""
        data = np.empty(self._ledger.arrays[scan.file.array].row_bytes, dtype=np.uint8)
        if not read_row(scan.look.path, int(scan.look.offsets[row]), data):
            raise AvpipeError(
                f"row {row} of {scan.look.path} was sound a moment ago and is not any more: the disk or another "
                "process is changing this cache while it is repaired; check that first"
            )
        return data


def _require_storable(value: np.ndarray, array: ArraySpec, clip: CommittedClip) -> None:
    if value.shape != (clip.segments, *array.row_shape):
        raise InputRejected(
            f"clip {clip.id!r} gives {array.name} of shape {value.shape} now, "
            f"{(clip.segments, *array.row_shape)} was committed",
            stage="repair",
            hint="restore its media file as it was",
        )
    if array.is_float and not np.isfinite(value).all():
        raise InputRejected(
            f"clip {clip.id!r} gives {array.name} with values that {array.dtype} cannot hold",
            stage="repair",
            hint="repair on the device that made the cache",
        )
