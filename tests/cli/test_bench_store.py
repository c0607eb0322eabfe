"""`avpipe bench store`: every reader reads the same bytes, and the document says how fast."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from avpipe.cli.main import app
from avpipe.pipeline.bench import store
from avpipe.pipeline.bench.pagecache import drop, resident_pages
from avpipe.pipeline.bench.readers import READERS
from avpipe.pipeline.errors import EnvironmentLacking, UsageError

TINY = ["bench", "store", "--shape", "vit_b", "--threads", "2"]
TINY += ["--gb", "0.02", "--clips-per-read", "1", "--seconds", "0.1"]


def _run(tmp_path, *options: str):
    return CliRunner().invoke(app, [*TINY, "--folder", str(tmp_path), *options])


@pytest.mark.slow
def test_all_readers_agree_and_the_document_is_whole(tmp_path):
    done = _run(tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    names = [row["name"] for row in found["rows"]]
    assert sorted(names + found["left_out"]) == sorted(READERS)
    assert {"readinto", "avpipe", "avpipe_crc", "avpipe_first", "avpipe_pread"} <= set(names)
    assert len({row["checksum"] for row in found["rows"]}) == 1
    assert found["equal"] is True
    for row in found["rows"]:
        assert (row["shape"], row["threads"]) == ("vit_b", 2)
        assert row["warm_gb_s"] > 0
        assert (row["cold_gb_s"] is None) == (not row["cold"])
        assert (row["write_gb_s"] is not None) == (row["name"] in ("readinto", "avpipe"))
        assert row["ratios"]["warm"] > 0
    assert found["rows"][0]["ratios"]["warm"] == 1
    assert list(tmp_path.iterdir()) == []


def test_different_bytes_end_with_1_and_are_said(tmp_path, monkeypatch):
    class Wrong(store.READERS["readinto"][1]):  # type: ignore[misc]
        def read(self, clips, buffers):
            super().read(clips, buffers)
            next(iter(buffers.values())).view("u1").flat[-1] ^= 1

    few = {"readinto": READERS["readinto"], "avpipe": (None, Wrong)}
    monkeypatch.setattr("avpipe.pipeline.bench.readers.READERS", few)
    monkeypatch.setattr(store, "READERS", few)
    done = _run(tmp_path)
    assert done.exit_code == 1
    assert "DIFFERENT BYTES" in done.stdout


def test_readers_that_are_not_installed_are_named(tmp_path, monkeypatch):
    few = {"readinto": READERS["readinto"], "swift": ("a_package_that_nobody_has", READERS["readinto"][1])}
    monkeypatch.setattr("avpipe.pipeline.bench.readers.READERS", few)
    done = _run(tmp_path)
    assert done.exit_code == 0
    assert "left out: swift is not installed" in done.stdout


def test_refuses_what_cannot_work(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'vit_b'"):
        store.StoreBench(tmp_path, shapes=("vit_a",))
    with pytest.raises(UsageError, match="no folder"):
        store.run(store.StoreBench(tmp_path / "nothing"))
    with pytest.raises(EnvironmentLacking, match="--gb"):
        store.run(store.StoreBench(tmp_path, gigabytes=1e6))
    assert list(tmp_path.iterdir()) == []


def test_pages_in_memory_are_counted(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(bytes(1 << 20))
    assert resident_pages(file) == 256
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    if drop([file]):
        assert resident_pages(file) <= 5
