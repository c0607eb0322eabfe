"""What `bench store` reads: random rows in a cache and in plain files, and how long writing them took."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avpipe.pipeline.cache import ArraySpec, CacheWriter, PlannedClip, UnitWork

SEGMENTS = 10
"""Rows of a clip."""
_POOL_BYTES = 64 << 20
_UNIT_BYTES = 512 << 20
"""Bytes of a unit at most, as in an extraction."""


def _taps(count: int, tokens: int, channels: int, first: int = 0) -> list[ArraySpec]:
    return [ArraySpec(f"visual/blocks.{first + i}", (tokens, channels), "float16") for i in range(count)]


SHAPES: dict[str, list[ArraySpec]] = {
    # ViT-B/16 at 224: 196 patches and the class token, every block.
    "vit_b": _taps(12, 197, 768),
    # Swin-V2-L at 192: the 24 blocks of its four stages.
    "swin_v2_l": [
        *_taps(2, 2304, 192),
        *_taps(2, 576, 384, first=2),
        *_taps(18, 144, 768, first=4),
        *_taps(2, 36, 1536, first=22),
    ],
}


@dataclass(frozen=True)
class Material:
    """The files of one shape.

    Attributes:
        folder: where they are.
        arrays: the arrays.
        clips: number of clips.
        unit_clips: clips of a unit.
    """

    folder: Path
    arrays: tuple[ArraySpec, ...]
    clips: int
    unit_clips: int

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.folder / "cache"

    @property
    def unit_rows(self) -> int:
        """Rows of a unit."""
        return self.unit_clips * SEGMENTS

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip in all arrays."""
        return SEGMENTS * sum(array.row_bytes for array in self.arrays)

    def plain(self, array: ArraySpec, unit: int) -> Path:
        """The plain file of an array and a unit: its rows, one after the other."""
        return self.folder / "plain" / f"{array.tap}.{unit}"

    def files(self) -> list[Path]:
        """Every file."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


@dataclass
class WriteTimes:
    """Seconds that writing a unit took, unit by unit, by the name of the writer."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Notes one unit."""
        self.seconds.setdefault(name, []).append(seconds)


def choose(folder: Path, shape: str, gigabytes: float, clips_per_read: int) -> Material:
    """How many clips make up a size: a multiple of `clips_per_read`, in two units or more."""
    arrays = tuple(SHAPES[shape])
    clip_bytes = SEGMENTS * sum(array.row_bytes for array in arrays)
    clips = max(1, round(gigabytes * 1e9 / clip_bytes / clips_per_read)) * clips_per_read
    unit_clips = max(1, min(_UNIT_BYTES // clip_bytes, -(-clips // 2)))
    return Material(folder / shape, arrays, clips, unit_clips)


def make(material: Material) -> WriteTimes:
    """Writes the cache and the plain files, unit by unit in turn, so that both meet the same disk.

    Returns:
        What each unit took, `readinto` being the plain files: buffered writes and one fsync per file.
    """
    rows, times = _Rows(), WriteTimes()
    (material.folder / "plain").mkdir(parents=True)
    with CacheWriter.create(material.cache, dataset={"name": "bench"}, unit_rows=material.unit_rows) as writer:
        writer.declare("visual", {"bench": 1}, {})
        clips = [(f"clip{number}", SEGMENTS, "") for number in range(material.clips)]
        for work in writer.plan(clips, material.arrays).pending:
            os.sync()
            times.add("readinto", _write_plain(material, work, rows))
            os.sync()
            times.add("avpipe", _write_unit(writer, work, rows))
    os.sync()
    return times


class _Rows:
    """Finite random numbers; each row begins at another place of one pool, so no two are alike."""

    def __init__(self) -> None:
        words = np.random.default_rng(0).integers(0, 2**64, _POOL_BYTES // 8, dtype=np.uint64)
        self._pool = (words.view(np.uint16) & 0xBFFF).view(np.float16)  # without the exponent's top bit: finite

    def get(self, array: ArraySpec, number: int, row: int) -> np.ndarray:
        """The row of an array, which is the `number`-th."""
        count = array.row_bytes // 2
        start = (row * 7919 + number * 1_000_003) % (len(self._pool) - count)
        return self._pool[start : start + count].reshape(array.row_shape)


def _write_unit(writer: CacheWriter, work: UnitWork, rows: _Rows) -> float:
    begun = time.perf_counter()
    with writer.unit(work) as unit:
        for clip in work.clips:
            for row in range(clip.start, clip.start + clip.segments):
                for number, array in enumerate(work.arrays):
                    unit.write(array.name, row, rows.get(array, number, row))
            unit.clip_done(clip, {"visual": np.ones(clip.segments, bool)}, {})
        unit.commit()
    return time.perf_counter() - begun


def _write_plain(material: Material, work: UnitWork, rows: _Rows) -> float:
    begun = time.perf_counter()
    streams = [material.plain(array, work.unit).open("wb") for array in work.arrays]
    for row in _rows_of(work.clips):
        for number, (array, stream) in enumerate(zip(work.arrays, streams, strict=True)):
            stream.write(rows.get(array, number, row).data)
    for stream in streams:
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
    return time.perf_counter() - begun


def _rows_of(clips: tuple[PlannedClip, ...]) -> list[int]:
    return [row for clip in clips for row in range(clip.start, clip.start + clip.segments)]
