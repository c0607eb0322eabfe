"""A toy extraction for the cache's tests: rows that follow from clip, array and segment alone."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from avpipe.pipeline.cache import ArraySpec, CacheWriter, Plan, PlannedClip, UnitWork, UnitWriter

FRAMES = ArraySpec("visual/frames", (4, 5, 3), "uint8")
BLOCK = ArraySpec("visual/blocks.3", (3, 8), "float16")
LARGE = ArraySpec("visual/blocks.7", (130, 129), "float32")  # 67,080 bytes: starts on a page
SAMPLES = ArraySpec("audio/samples", (50,), "int16")
VISUAL = (FRAMES, BLOCK, LARGE)
ARRAYS = (*VISUAL, SAMPLES)
UNIT_ROWS = 8


def clips(count: int, first: int = 0) -> list[tuple[str, int, str]]:
    """Clips of 1 to 5 segments, ids with dots, spaces and a leading "-"; units of 8 rows get holes."""
    return [(f"-clip {i}.a", 1 + (i * 7) % 5, f"signature {i}") for i in range(first, first + count)]


def value(clip: str, array: ArraySpec, segment: int) -> np.ndarray:
    """The row of a clip's segment."""
    rng = np.random.default_rng(zlib.crc32(f"{clip}/{array.name}/{segment}".encode()))
    if array.is_float:
        return rng.standard_normal(array.row_shape, dtype=np.float32).astype(array.dtype)
    info = np.iinfo(array.dtype)
    return rng.integers(info.min, info.max, array.row_shape, dtype=array.dtype, endpoint=True)


def masks(clip: PlannedClip) -> dict[str, np.ndarray]:
    """Everything is there but the last segment's sound."""
    audio = np.ones(clip.segments, dtype=bool)
    audio[-1] = False
    return {"visual": np.ones(clip.segments, dtype=bool), "audio": audio}


def begin(path: Path, unit_rows: int = UNIT_ROWS) -> CacheWriter:
    """A writer with both modalities declared."""
    writer = CacheWriter.create(path, dataset={"name": "toy"}, unit_rows=unit_rows)
    for modality in ("visual", "audio"):
        writer.declare(modality, {"weights": {"sha256": "12ab"}, "segment_seconds": 1.0}, {"model": "toy"})
    return writer


def fill(unit: UnitWriter, reject: Collection[str] = (), *, backwards: bool = False) -> None:
    """Writes every row of a unit; clips named in `reject` fail after their first segment.

    `backwards` writes the same rows in another order: other files of the same content.
    """
    for clip in unit.work.clips[:: -1 if backwards else 1]:
        bad = clip.id in reject
        for segment in range(1 if bad else clip.segments):
            for array in unit.work.arrays:
                unit.write(array.name, clip.start + segment, value(clip.id, array, segment))
        if bad:
            unit.reject(clip, stage="decode", reason="it is torn", hint="mend it", provenance={"decoder": "toy 1"})
        else:
            unit.clip_done(clip, masks(clip), {"decoder": "toy 1"})


def commit(writer: CacheWriter, work: UnitWork, reject: Collection[str] = (), *, backwards: bool = False) -> bool:
    """Fills and commits one unit."""
    with writer.unit(work) as unit:
        fill(unit, reject, backwards=backwards)
        return unit.commit({"toy": 0.5})


def extract(
    path: Path,
    wanted: Sequence[tuple[str, int, str]],
    arrays: Sequence[ArraySpec] = ARRAYS,
    *,
    unit_rows: int = UNIT_ROWS,
    reject: Collection[str] = (),
    retry: bool = False,
) -> Plan:
    """Does whatever is left to do and returns the plan that it began with."""
    with begin(path, unit_rows) as writer:
        plan = writer.plan(wanted, arrays, retry=retry)
        for work in plan.pending:
            assert commit(writer, work, reject)
    return plan


def assert_sound(path: Path, wanted: Sequence[tuple[str, int, str]], arrays: Sequence[ArraySpec] = ARRAYS) -> None:
    """The cache holds exactly these clips with the right bytes, and verification finds nothing."""
    from avpipe.pipeline.cache import open_cache, verify

    cache = open_cache(path)
    found = cache.clips([array.name for array in arrays])
    assert sorted(found) == sorted(clip for clip, _, _ in wanted)
    for clip, segments, _ in wanted:
        rows = cache.rows([clip])
        read = cache.read(rows, [array.name for array in arrays], check="always", access="pread")
        for array in arrays:
            expected = np.stack([value(clip, array, segment) for segment in range(segments)])
            np.testing.assert_array_equal(read[array.name], expected)
    report = verify(path)
    assert report.ok, report.faults


def left_temporaries(path: Path) -> list[str]:
    """Files of writers that were left behind, apart from those of living writers of this test."""
    return sorted(p.name for p in (path / "ledger" / "tmp").glob("*/*") if p.name != "lock")
