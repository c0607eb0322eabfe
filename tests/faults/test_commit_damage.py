"""Damage after the fact: every flipped byte and every lost, cut or emptied file is found, and never read as zeros."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import CacheWriter, open_cache, verify
from avpipe.pipeline.cache.documents import seal, unseal
from avpipe.pipeline.errors import AvpipeError, CorruptionFound

CLIPS = toy.clips(4)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Two units; arrays that were added later; a rejected clip."""
    path = tmp_path_factory.mktemp("sound") / "c"
    toy.extract(path, CLIPS, toy.VISUAL, reject={CLIPS[1][0]})
    toy.extract(path, CLIPS, toy.ARRAYS)
    return path


@pytest.fixture
def damaged(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "c"))


def _files(path: Path) -> list[str]:
    found = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return [name for name in found if not name.endswith("planner.lock")]


def _read_everything(path: Path, access: str = "pread") -> None:
    cache = open_cache(path)
    for name in cache.arrays:
        for clip in cache.clips([name]):
            cache.read(cache.rows([clip]), [name], access=access)


def _detects(path: Path, name: str) -> bool:
    try:
        report = verify(path)
    except AvpipeError as error:
        return name in str(error)
    return any(name in fault.path for fault in report.faults)


def test_every_kind_of_file_is_there(sound):
    kinds = {name.rsplit("/", 1)[0] for name in _files(sound)}
    assert {"ledger", "ledger/plan", "ledger/records", "ledger/arrays", "visual", toy.LARGE.name} <= kinds
    assert {"ledger/twins", "ledger/twins/plan", "ledger/twins/records", "ledger/twins/arrays"} <= kinds
    assert verify(sound).ok
    _read_everything(sound)


@pytest.mark.parametrize("flips", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_found(damaged, flips):
    """At the edges of every file, and in so many other places of it."""
    rng = random.Random(1)
    for name in _files(damaged):
        file = damaged / name
        good = file.read_bytes()
        edges = {0, len(good) - 1, len(good) - 3, len(good) - 20, len(good) - 40}
        for offset in sorted(edges | {rng.randrange(len(good)) for _ in range(flips)}):
            bad = bytearray(good)
            bad[offset] ^= 1 << rng.randrange(8)
            file.write_bytes(bad)
            assert _detects(damaged, name), f"{name}: flip at {offset} of {len(good)} was not found"
        file.write_bytes(good)
    assert verify(damaged).ok


def test_every_lost_cut_or_emptied_file_is_found(damaged):
    for name in _files(damaged):
        file = damaged / name
        good = file.read_bytes()
        for bad in (good[: len(good) // 2], good[:-1], good + b"\0", b""):
            file.write_bytes(bad)
            assert _detects(damaged, name), f"{name} with {len(bad)} of {len(good)} bytes was not found"
        file.unlink()
        assert _detects(damaged, name), f"{name} is lost, and nobody noticed"
        file.write_bytes(good)
    assert verify(damaged).ok


@pytest.mark.parametrize("access", ["mmap", "pread"])
@pytest.mark.parametrize("array", toy.ARRAYS, ids=lambda a: a.tap)
def test_reading_names_clip_tap_and_shard(damaged, array, access):
    cache = open_cache(damaged)
    clip = CLIPS[0][0]
    file = damaged / array.shard_key(0)
    good = file.read_bytes()
    at = good.index(toy.value(clip, array, 0).tobytes())
    for bad in (_flip(good, at), _flip(good, at + array.row_bytes - 1), _flip(good, at + array.row_bytes)):
        file.write_bytes(bad)
        with pytest.raises(CorruptionFound) as error:
            open_cache(damaged).read(cache.rows([clip]), [array.name], access=access)
        text = str(error.value)
        assert repr(clip) in text
        assert array.name in text
        assert str(file) in text
        assert "avpipe cache verify" in text
        fault = next(f for f in verify(damaged).faults if f.segment is not None)
        assert (fault.clip, fault.segment, fault.array, fault.unit) == (clip, 0, array.name, 0)


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_a_lost_or_cut_shard_is_never_read_as_zeros(damaged, access):
    file = damaged / toy.BLOCK.shard_key(0)
    good = file.read_bytes()
    cases = {
        "missing": None,
        "has 0 bytes": b"",
        "bytes": good[:-1],
        "checksum of its index": _flip(good, len(good) - 30),
    }
    for words, bad in cases.items():
        file.unlink(missing_ok=True)
        if bad is not None:
            file.write_bytes(bad)
        with pytest.raises(CorruptionFound, match=words) as error:
            _read_everything(damaged, access)
        assert toy.BLOCK.name in str(error.value)
        assert repr(CLIPS[0][0]) in str(error.value)


def test_a_row_is_checked_again_only_where_asked(damaged):
    cache = open_cache(damaged)
    rows = cache.rows([CLIPS[0][0]])
    cache.read(rows, [toy.BLOCK.name], access="pread")
    file = damaged / toy.BLOCK.shard_key(0)
    at = file.read_bytes().index(toy.value(CLIPS[0][0], toy.BLOCK, 0).tobytes())
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\x11")
    cache.read(rows, [toy.BLOCK.name], access="pread")
    cache.read(rows, [toy.BLOCK.name], access="pread", check="never")
    with pytest.raises(CorruptionFound):
        cache.read(rows, [toy.BLOCK.name], access="pread", check="always")


def test_a_damaged_ledger_opens_for_nobody(damaged):
    for name in _files(damaged):
        if "ledger/" in name and "twins/" not in name and not name.endswith("zarr.json"):
            good = (damaged / name).read_bytes()
            (damaged / name).write_bytes(_flip(good, len(good) // 2))
            for attempt in (open_cache, CacheWriter.open):
                with pytest.raises(CorruptionFound, match=Path(name).name):
                    attempt(damaged)
            (damaged / name).write_bytes(good)


def test_a_content_sum_that_is_wrong_from_the_start_is_found(damaged):
    record = next((damaged / "ledger" / "records").glob("*.0000.json"))
    content = unseal(record.read_bytes(), record)
    content["clips"][0]["content"] = f"{1:032x}"
    for path in (record, damaged / "ledger" / "twins" / "records" / record.name):
        path.write_bytes(seal(content))
    (fault,) = verify(damaged).faults
    assert (fault.clip, fault.path) == (content["clips"][0]["id"], str(record))


def test_a_writer_makes_zarr_documents_anew(damaged):
    for name in ("zarr.json", f"{toy.BLOCK.name}/zarr.json"):
        good = (damaged / name).read_bytes()
        (damaged / name).write_bytes(good[:-10])
        assert not verify(damaged).ok
        toy.extract(damaged, CLIPS)
        assert (damaged / name).read_bytes() == good
    assert verify(damaged).ok


def _flip(data: bytes, offset: int) -> bytes:
    changed = np.frombuffer(data, dtype=np.uint8).copy()
    changed[offset] ^= 0x10
    return changed.tobytes()
