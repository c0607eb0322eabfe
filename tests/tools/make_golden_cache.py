"""Makes the golden cache of a format version. It was made once and is kept: later versions of avpipe must read it.

    python tests/tools/make_golden_cache.py tests/golden/cache_v1

Two units, with a hole, an array that was added later, a clip that moved when it failed there, a rejected clip, and a
shard that was repaired after the ledger was compacted. `tests/golden/test_cache_golden.py` says what it must hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from avpipe.pipeline.cache import ArraySpec, CacheWriter, PlannedClip, UnitWork, open_cache
from avpipe.pipeline.cache.compact import compact
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.repair import repair

FRAMES = ArraySpec("visual/frames", (2, 3, 3), "uint8")
BLOCK = ArraySpec("visual/blocks.1", (2, 4), "float16")
SAMPLES = ArraySpec("audio/samples", (6,), "int16")
ARRAYS = (FRAMES, BLOCK, SAMPLES)
FIRST = [("-a b", 2, "sizes 1"), ("moves", 1, "sizes 2"), ("name \udcff", 2, "sizes 3")]
SECOND = [("d", 3, "sizes 4"), ("torn", 2, "sizes 5")]
CHANGED = "name \udcff"
"""Its first row in `visual/blocks.1` had another value at first; the repair brought the one of the formula."""


def row(clip: str, array: ArraySpec, segment: int) -> np.ndarray:
    """What the cache holds of a clip's segment."""
    seed = sum(clip.encode("utf-8", "surrogatepass")) + 10 * sum(array.name.encode()) + 100 * segment
    numbers = (seed + 7 * np.arange(np.prod(array.row_shape))) % 251
    return (numbers / 4 if array.is_float else numbers).astype(array.dtype).reshape(array.row_shape)


def commit(writer: CacheWriter, work: UnitWork, reject: str) -> None:
    """Commits one unit; one clip is rejected."""
    with writer.unit(work) as unit:
        for clip in work.clips:
            for array in work.arrays:
                for segment in range(clip.segments):
                    other = (clip.id, array, segment) == (CHANGED, BLOCK, 0)
                    unit.write(array.name, clip.start + segment, row(clip.id, array, segment) + int(other))
            if clip.id == reject:
                unit.reject(clip, stage="decode", reason="it is torn", hint="mend it", provenance={"decoder": "toy 1"})
            else:
                unit.clip_done(clip, _masks(clip), {"decoder": "toy 1", "device": "cpu"})
        assert unit.commit({"toy": 0.5})


def _masks(clip: PlannedClip) -> dict[str, np.ndarray]:
    sound = np.arange(clip.segments) != 1
    return {"visual": np.ones(clip.segments, dtype=bool), "audio": sound}


def make(path: Path) -> None:
    """Makes the cache in a new folder."""
    layout = Layout(path)
    with CacheWriter.create(path, dataset={"name": "golden"}, unit_rows=6) as writer:
        for modality in ("visual", "audio"):
            writer.declare(modality, {"weights": "none", "segment_seconds": 1.0}, {"model": "toy"})
        (work,) = writer.plan(FIRST, ARRAYS[:2]).pending
        commit(writer, work, "")
        (work,) = writer.plan(FIRST, ARRAYS).pending
        commit(writer, work, "moves")
        (work,) = writer.plan(FIRST + SECOND, ARRAYS, retry=True).pending
        commit(writer, work, "torn")
    assert compact(layout, Ledger(layout))
    shard = layout.shard(BLOCK, 0)
    data = bytearray(shard.read_bytes())
    first = int(open_cache(path).rows([CHANGED])[0])
    data[first * (BLOCK.row_bytes + 4)] ^= 1  # the first chunk of the clip: rows were written in order
    shard.write_bytes(data)
    report = repair(path, lambda root: _make_again)
    assert (report.rows, report.changed, report.failed) == (1, [CHANGED], {}), report
    for lock in path.rglob("*lock"):
        lock.unlink()
    for folder in (layout.temporaries, layout.ledger / "leases"):  # empty, which git does not keep
        folder.rmdir()


def _make_again(clip, arrays, raw):
    specs = {array.name: array for array in ARRAYS}
    values = {name: np.stack([row(clip.id, specs[name], s) for s in range(clip.segments)]) for name in arrays}
    return values, {"decoder": "toy 2"}


if __name__ == "__main__":
    make(Path(sys.argv[1]))
