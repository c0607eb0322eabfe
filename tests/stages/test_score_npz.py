"""Arrays of an npz file are read row by row."""

import tracemalloc

import numpy as np
import pytest

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
