"""`avpipe cache repair` on a real extraction: damaged features come back from stored frames, frames from media."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")


@pytest.fixture
def cache(avpipe_here, own_ave, tmp_path) -> Path:
    """Three units of two clips."""
    path = tmp_path / "cache"
    avpipe_here("extract", "--dataset", "ave", "--root", own_ave.root, "--cache", path, "--unit-segments", 20, *STUB)
    return path


def _hash(avpipe_here, cache: Path) -> str:
    return json.loads(avpipe_here("cache", "show", "--cache", cache, "--json").stdout)["content_hash"]


def _flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def _shards(cache: Path, array: str) -> list[Path]:
    found = sorted((cache / array).glob("c.*"))
    assert len(found) == 3
    return found


def test_damage_is_found_and_repaired(avpipe_here, cache):
    expected = _hash(avpipe_here, cache)
    tap = next(path.name for path in (cache / "visual").iterdir() if path.name.startswith("blocks"))
    _flip(_shards(cache, f"visual/{tap}")[0], 7)
    _shards(cache, "visual/frames")[1].unlink()
    _shards(cache, "audio/samples")[2].write_bytes(b"")
    record = cache / "ledger" / "records" / "00000001.0000.json"
    record.write_bytes(record.read_bytes()[:-9])
    found = avpipe_here("cache", "verify", "--cache", cache, check=5)
    assert found.stdout.count("FAULT") >= 3
    assert "avpipe cache repair" in avpipe_here("cache", "show", "--cache", cache, check=5).stderr
    report = json.loads(avpipe_here("cache", "repair", "--cache", cache, "--json").stdout)
    assert report["ok"]
    assert report["documents"] == [str(record)]
    assert len(report["shards"]) == 3
    assert report["rows"] == 1 + 20 + 20
    assert report["changed"] == []
    assert "no fault" in avpipe_here("cache", "verify", "--cache", cache).stdout
    assert _hash(avpipe_here, cache) == expected


def test_what_cannot_be_decoded_again_is_named(avpipe_here, cache, own_ave):
    expected = _hash(avpipe_here, cache)
    video = own_ave.video(own_ave.ids[0])
    away = video.with_name("away")
    video.rename(away)
    tap = next(path.name for path in (cache / "visual").iterdir() if path.name.startswith("blocks"))
    for file in _shards(cache, f"visual/{tap}"):
        file.unlink()  # made again from stored frames: no media are needed
    _shards(cache, "visual/frames")[0].unlink()
    failed = avpipe_here("cache", "repair", "--cache", cache, check=5)
    assert own_ave.ids[0] in failed.stdout
    assert "1 failure" in failed.stdout
    faults = [
        line
        for line in avpipe_here("cache", "verify", "--cache", cache, check=5).stdout.splitlines()
        if "FAULT" in line
    ]
    assert faults
    assert all(own_ave.ids[0] in line for line in faults)
    away.rename(video)
    avpipe_here("cache", "repair", "--cache", cache)
    assert _hash(avpipe_here, cache) == expected


def test_other_weights_are_refused(avpipe, cache):
    _shards(cache, "audio/samples")[0].unlink()
    failed = avpipe("cache", "repair", "--cache", cache, "--visual-weights", "random:1", check=4)
    assert "weights 'random:1' hash to" in failed.stderr


def test_gc_says_what_it_would_do(avpipe_here, cache):
    stray = cache / "visual" / "frames" / "c.77.0.0.0"
    stray.write_bytes(b"123")
    listed = avpipe_here("cache", "gc", "--cache", cache, "--dry-run").stdout
    assert "visual/frames/c.77.0.0.0" in listed
    assert "1 file, 3 B, would be deleted" in listed
    assert stray.exists()
    assert json.loads(avpipe_here("cache", "gc", "--cache", cache, "--json").stdout)["bytes"] == 3
    assert not stray.exists()
