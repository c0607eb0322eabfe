"""Arrays of an npz file are read row by row."""

import tracemalloc

import numpy as np
import pytest

from avpipe.stages.scoring import npz
from avpipe.stages.scoring.npz import Archive


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_holds_a_few_rows(tmp_path, save):
    values = np.zeros((80, 256, 256), np.float32)  # 20 MiB
    values[:, 0, 0] = np.arange(80)
    save(tmp_path / "p.npz", values=values)
    tracemalloc.start()
    with Archive(tmp_path / "p.npz") as archive:
        stored = archive.open("values")
        assert (stored.shape, stored.dtype) == ((80, 256, 256), np.float32)
        seen = [stored.take(2, (256, 256), skip=2)[:, 0, 0].tolist() for _ in range(20)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == [[4 * n, 4 * n + 1] for n in range(20)]
    assert peak < 4 * 2**20


def test_a_sample_that_no_memory_holds_is_refused_before_it_is_read(tmp_path):
    values = np.zeros((2, 3, 2000, 2000), np.uint8)  # 12 KiB in the file
    np.savez_compressed(tmp_path / "p.npz", values=values)
    with Archive(tmp_path / "p.npz") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz, "WHOLE_BYTES", 4_000_000)
        stored = archive.open("values")
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"shape \(2, 3, 2000, 2000\) has 8000000 bytes for one sample"):
            stored.take(2, (2000, 2000))
        stored.take(1, (2000, 2000), skip=2)  # what is passed over is never held
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10_000_000


def test_arrays_at_once(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.savez(tmp_path / "p.npz", c=values, fortran=np.asfortranarray(values), empty=np.zeros((0, 3)), one=np.float64(2))
    with Archive(tmp_path / "p.npz") as archive:
        assert archive.names == {"c", "fortran", "empty", "one"}
        for name in ("c", "fortran"):
            assert (archive.whole(name) == values).all()
            stored = archive.open(name)
            assert (stored.take(1, (3, 4)) == values[:1]).all()
            assert (stored.take(1, (3, 4)) == values[1:]).all()
        assert archive.whole("empty").shape == (0, 3)
        assert archive.whole("one") == 2
