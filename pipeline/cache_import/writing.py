"""Writing what is imported: units, clips, segments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import xxhash

from avpipe.pipeline import progress
from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork, UnitWriter
from avpipe.pipeline.cache_import.axes import tokens
from avpipe.pipeline.cache_import.npy import rejected
from avpipe.pipeline.cache_import.taps import ImportedTap
from avpipe.pipeline.errors import InputRejected

NAMED = 20
"""Quarantined clips that are named while the import runs."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest value of any storage type."""


class UnitImporter:
    """Imports units of work.

    Args:
        taps: what is imported, by name of the array.
        signatures: size and time of the source's file, by array and clip.

    Attributes:
        imported: clips that were committed.
        quarantined: clips that were rejected.
        notes: what is odd about clips that were imported, one line each.
    """

    def __init__(self, taps: Mapping[str, ImportedTap], signatures: Mapping[str, Mapping[str, str]]) -> None:
        self._taps, self._signatures = taps, signatures
        self.imported, self.quarantined = 0, 0
        self.notes: list[str] = []

    def run(self, writer: CacheWriter, planned: UnitWork, on_clip: Callable[[], None], *, defer: bool) -> bool:
        """Imports one unit.

        Args:
            writer: of the cache.
            planned: the unit.
            on_clip: called after each clip.
            defer: leave a unit alone that another process holds.

        Returns:
            False where another process has committed it first, or holds it.
        """
        if not writer.claim(planned.unit) and defer:
            return False
        try:
            work = writer.left(planned)
            if work is None:
                return False
            begun, done = time.perf_counter(), 0
            with writer.unit(work) as unit:
                for clip in work.clips:
                    done += self._clip(unit, clip, work)
                    writer.progress()
                    on_clip()
                won = unit.commit({"import": time.perf_counter() - begun})
        finally:
            writer.release(planned.unit)
        self.imported += done if won else 0
        return won

    def _clip(self, unit: UnitWriter, clip: PlannedClip, work: UnitWork) -> bool:
        """Imports one clip; False where it had to be quarantined."""
        provenance, doubts = {}, []
        for array in work.arrays:
            tap, signature = self._taps[array.name], self._signatures[array.name].get(clip.id, "")
            try:
                provenance[array.name] = _write(unit, clip, tap, signature)
                doubts.append((array.name, tap.source.doubt(clip.id)))
            except InputRejected as error:
                unit.reject(clip, stage=error.stage, reason=f"{array.name}: {error.reason}", hint=error.hint)
                self._tell(f"quarantined {clip.id}: {array.name}: {error}")
                return False
        self.notes += [f"{name}, clip {clip.id!r}: {doubt}" for name, doubt in doubts if doubt]
        present = np.ones(clip.segments, dtype=bool)
        unit.clip_done(clip, {array.modality: present for array in work.arrays}, provenance)
        return True

    def _tell(self, line: str) -> None:
        self.quarantined += 1
        if self.quarantined <= NAMED:
            progress.say(line)
        elif self.quarantined == NAMED + 1:
            progress.say("further clips are quarantined without a line for each")


def _write(unit: UnitWriter, clip: PlannedClip, tap: ImportedTap, signature: str) -> str:
    """Writes the features of one clip.

    Returns:
        Where they came from: file, size and time of the file, hash of the values.

    Raises:
        InputRejected: they cannot be used.
        UsageError: a value is beyond float16.
    """
    digest = xxhash.xxh3_128()
    with tap.source.open(clip.id) as values:
        step = tap.rows_per_segment(values, clip.segments)
        for segment in range(clip.segments):
            rows = values.read(segment * step, (segment + 1) * step)
            digest.update(np.ascontiguousarray(rows).tobytes())
            unit.write(tap.array.name, clip.start + segment, _stored(rows, tap, segment))
        return f"{values.label}, {signature}, xxh3_128 of values {digest.hexdigest()}"


def _stored(rows: np.ndarray, tap: ImportedTap, segment: int) -> np.ndarray:
    """Tokens of a segment in the storage type."""
    found = tokens(rows, tap.axes)
    largest = float(np.abs(found).max())
    if not math.isfinite(largest):
        what = "NaN" if math.isnan(largest) else "infinity"
        raise rejected(f"{what} in segment {segment}", "fetch the file again, or leave the clip out")
    if largest > LARGEST:
        raise rejected(f"{largest:g} in segment {segment} is beyond float32")
    with np.errstate(over="ignore"):  # an overflow of float16 becomes an infinity, which the writer refuses by name
        return found.astype(tap.array.dtype)
