"""`bench store`: how fast a cache is written and read here, beside plain files and other Zarr readers."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from avpipe.pipeline import progress
from avpipe.pipeline.bench import material as making
from avpipe.pipeline.bench.material import SEGMENTS, SHAPES, Material
from avpipe.pipeline.bench.pagecache import drop
from avpipe.pipeline.bench.readers import READERS, Reader, installed
from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name

BASE = "readinto"
"""What the others are compared with."""
_COLD_ROUNDS = 2
_WARM_ROUNDS = 3
_SPARE_BYTES = 1 << 30
_SCRATCH_BYTES = 512 << 20
"""More than the processor's caches hold: read before each pass, so that nobody finds there what the one before left."""


_MOST_THREADS = 256


@dataclass(frozen=True)
class StoreBench:
    """What to measure.

    Attributes:
        folder: where the files go; they are deleted afterwards.
        shapes: names of `SHAPES`.
        gigabytes: size of the features of each shape.
        clips_per_read: clips that one call reads.
        seconds: time for the warm rounds of each shape; there are three at least.
        threads: threads of every reader.
    """

    folder: Path
    shapes: tuple[str, ...] = tuple(SHAPES)
    gigabytes: float = 1.0
    clips_per_read: int = 4
    seconds: float = 5.0
    threads: int = 1

    def __post_init__(self) -> None:
        for shape in self.shapes:
            if shape not in SHAPES:
                raise unknown_name("shape", shape, SHAPES)
        if not 0 < self.gigabytes < math.inf:
            raise UsageError(f"{self.gigabytes} GB of features: give a number above 0")
        if not 0 <= self.seconds < math.inf:
            raise UsageError(f"{self.seconds} s of warm rounds: give 0 or more")
        if self.clips_per_read < 1 or not 1 <= self.threads <= _MOST_THREADS:
            raise UsageError(f"clips per read must be 1 or more, threads 1 to {_MOST_THREADS}")

    @property
    def disk_bytes(self) -> int:
        """Bytes of disk (and of page cache, to be warm) that are used at a time: a cache and plain files."""
        return max(2 * m.clips * m.clip_bytes for m in map(self.material, self.shapes))

    def material(self, shape: str) -> Material:
        """The files of a shape."""
        return making.choose(self.folder, shape, self.gigabytes, self.clips_per_read)


@dataclass
class _Speeds:
    """Speeds of one reader round by round, in GB/s, and the checksum of what it read."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    checksums: set[str] = field(default_factory=set)


def run(bench: StoreBench) -> dict[str, Any]:
    """Measures.

    Returns:
        JSON-ready: `rows`, each with `shape`, `name`, `threads`, `cold_gb_s`, `warm_gb_s`, `write_gb_s` (GB are 10^9
        bytes, medians over the rounds, None where it was not measured), `checksum` and `ratios` (to `readinto`, medians
        of each round's ratio); `equal`: whether all readers of a shape read the same bytes; `left_out`: readers
        that are not installed; what was asked for.

    Raises:
        EnvironmentLacking: the disk lacks room.
    """
    _require_room(bench)
    progress.say(f"uses {bench.disk_bytes / 1e9:.1f} GB of {bench.folder}, deleted afterwards, and as much of memory")
    names, lacking = installed()
    rows = []
    for shape in bench.shapes:
        with tempfile.TemporaryDirectory(dir=bench.folder, prefix="avpipe-bench-") as folder:
            rows += _ShapeRun(StoreBench(**{**vars(bench), "folder": Path(folder)}), shape, names).rows()
    by_shape = [{row["checksum"] for row in rows if row["shape"] == shape} for shape in bench.shapes]
    return {
        "rows": rows,
        "equal": all(len(checksums) == 1 for checksums in by_shape),
        "left_out": lacking,
        "folder": str(bench.folder),
        "gigabytes": bench.gigabytes,
        "clips_per_read": bench.clips_per_read,
        "seconds": bench.seconds,
    }


def _require_room(bench: StoreBench) -> None:
    if not bench.folder.is_dir():
        raise UsageError(f"there is no folder {bench.folder}: make it, or name another with --folder")
    free = shutil.disk_usage(bench.folder).free
    if free < bench.disk_bytes + _SPARE_BYTES:
        raise EnvironmentLacking(
            f"{bench.folder} has {free / 1e9:.1f} GB free, and {bench.disk_bytes / 1e9:.1f} GB and some spare are "
            "needed: choose less with --gb or --clips-per-read, or another disk with --folder"
        )


class _ShapeRun:
    """One shape: files, readers, rounds."""

    def __init__(self, bench: StoreBench, shape: str, names: Sequence[str]) -> None:
        self._bench, self._shape, self._names = bench, shape, list(names)
        self._material = bench.material(shape)
        self._order = np.random.default_rng(1).permutation(self._material.clips).reshape(-1, bench.clips_per_read)
        count = bench.clips_per_read * SEGMENTS
        self._buffers = {a.name: np.zeros((count, *a.row_shape), a.dtype) for a in self._material.arrays}
        self._scratch = np.ones(_SCRATCH_BYTES // 8)
        self._speeds = {name: _Speeds() for name in self._names}
        self._cold = True

    def rows(self) -> list[dict[str, Any]]:
        """Writes, reads, and sums up."""
        progress.say(f"{self._shape}: writing a cache and plain files, {self._gigabytes:.2f} GB each")
        written = {name: [self._unit_gigabytes / s for s in seconds][: self._whole_units]
                   for name, seconds in making.make(self._material).seconds.items()}  # fmt: skip
        progress.say(f"{self._shape}: reading {self._material.clips} clips, {', '.join(self._names)}")
        self._cold_rounds()
        self._warm_rounds()
        return [self._row(name, written) for name in self._names]

    @property
    def _gigabytes(self) -> float:
        return self._material.clips * self._material.clip_bytes / 1e9

    @property
    def _unit_gigabytes(self) -> float:
        return self._material.unit_clips * self._material.clip_bytes / 1e9

    @property
    def _whole_units(self) -> int:
        return self._material.clips // self._material.unit_clips

    def _cold_rounds(self) -> None:
        files = self._material.files()
        for number in range(_COLD_ROUNDS):
            for name in self._turned(number):
                reader = self._open(name)  # opened before: a few small files of the ledger are no data
                self._cold = drop(files) and self._cold
                self._speeds[name].cold.append(self._pass(name, reader))
                reader.close()

    def _warm_rounds(self) -> None:
        readers = {name: self._open(name) for name in self._names}
        try:
            for name, reader in readers.items():
                self._pass(name, reader)
            begun, number = time.perf_counter(), 0
            while number < _WARM_ROUNDS or time.perf_counter() - begun < self._bench.seconds:
                for name in self._turned(number):
                    self._speeds[name].warm.append(self._pass(name, readers[name]))
                number += 1
        finally:
            for reader in reversed(readers.values()):  # settings of zarr-python are put back in reverse
                reader.close()

    def _turned(self, number: int) -> list[str]:
        """The readers, beginning with another one each round, so that none always follows the same."""
        first = number % len(self._names)
        return self._names[first:] + self._names[:first]

    def _open(self, name: str) -> Reader:
        return READERS[name][1](self._material, self._bench.threads)

    def _pass(self, name: str, reader: Reader) -> float:
        """Reads every clip once; returns GB/s. Checksums are taken between the reads and not counted."""
        self._scratch.max()
        seconds, state = 0.0, xxhash.xxh3_64()
        for clips in self._order.tolist():
            begun = time.perf_counter()
            reader.read(clips, self._buffers)
            seconds += time.perf_counter() - begun
            for buffer in self._buffers.values():
                state.update(buffer.data)
        self._speeds[name].checksums.add(state.hexdigest())
        return self._gigabytes / seconds

    def _row(self, name: str, written: dict[str, list[float]]) -> dict[str, Any]:
        speeds, base = self._speeds[name], self._speeds[BASE]
        kinds = {
            "cold": (speeds.cold if self._cold else [], base.cold),
            "warm": (speeds.warm, base.warm),
            "write": (written.get(name, []), written[BASE]),
        }
        row: dict[str, Any] = {"shape": self._shape, "name": name, "threads": self._bench.threads, "cold": self._cold}
        row |= {f"{kind}_gb_s": _median(values) for kind, (values, _) in kinds.items()}
        row["checksum"] = "/".join(sorted(speeds.checksums))
        row["ratios"] = {kind: _median([a / b for a, b in zip(values, others, strict=False)])
                         for kind, (values, others) in kinds.items() if values}  # fmt: skip
        return row


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None
