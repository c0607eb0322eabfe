"""Writing fast loses nothing: what was handed over is in the file, in order, and what cannot be stored is refused."""

from __future__ import annotations

import os
import random

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import PlannedClip, stream
from avpipe.pipeline.cache.stream import Stream
from avpipe.pipeline.cache.values import stored_bytes
from avpipe.pipeline.errors import EnvironmentLacking, UsageError


@pytest.mark.parametrize("largest", [100, 5_000, 300_000, 2_000_000])
def test_parts_of_any_size_arrive_in_order(tmp_path, monkeypatch, largest):
    rng, whole = random.Random(largest), os.writev

    def sometimes_less(descriptor, parts):
        return whole(descriptor, parts if rng.random() < 0.7 else [parts[0][: max(1, len(parts[0]) // 2)]])

    monkeypatch.setattr(stream.os, "writev", sometimes_less)
    monkeypatch.setattr(stream, "_WRITE_BACK_BYTES", 100_000)
    expected, reused = bytearray(), bytearray(largest)
    out = Stream(tmp_path / "f")
    for _ in range(60):
        size = rng.randrange(largest)
        reused[:size] = rng.randbytes(size)
        out.write(memoryview(reused)[:size], b"tail")  # the caller's buffer is used again at once
        expected += reused[:size] + b"tail"
    out.sync()
    assert (tmp_path / "f").read_bytes() == expected
    out.close()
    with pytest.raises(FileExistsError):
        Stream(tmp_path / "f")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(descriptor, parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stream.os, "writev", full)
    out = Stream(tmp_path / "f")
    with pytest.raises(EnvironmentLacking, match="No space left"):
        out.write(bytes(100_000))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_value_that_is_not_finite_is_refused_and_the_largest_are_not(dtype):
    array = toy.ArraySpec("visual/tap", (3, 50), dtype)
    clip = PlannedClip("a", 0, 1)
    info = np.finfo(dtype)
    value = np.linspace(-1, 1, 150).astype(dtype).reshape(3, 50)
    for good in (info.max, info.min, -0.0, info.tiny, info.smallest_subnormal):
        value[2, 49] = good
        assert bytes(stored_bytes(value, array, clip)) == value.tobytes()
    for bad, words in ((np.nan, "NaN"), (np.inf, "overflow|infinity"), (-np.inf, "overflow|infinity")):
        value[2, 49] = bad
        with pytest.raises(UsageError, match=words):
            stored_bytes(value, array, clip)
    value.view(f"i{value.itemsize}")[2, 49] = -1  # every bit set: NaN with a minus
    with pytest.raises(UsageError, match="NaN"):
        stored_bytes(value, array, clip)
