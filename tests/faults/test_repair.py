"""Repair: whatever is flipped, cut, emptied or lost comes back, and the content hash is what it was."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import ArraySpec, CacheWriter, durable, lease, open_cache, scan, shardcheck, verify
from avpipe.pipeline.cache.compact import compact
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.remaking import Remade
from avpipe.pipeline.cache.repair import repair
from avpipe.pipeline.errors import AvpipeError, CorruptionFound, InputRejected, UsageError

CLIPS = toy.clips(4)
FLIPS_PER_FILE = 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """Two units; arrays that were added later; a rejected clip that came in later, a superseded one."""
    path = tmp_path_factory.mktemp("sound") / "c"
    toy.extract(path, CLIPS, toy.VISUAL, reject={CLIPS[1][0]})
    toy.extract(path, CLIPS, toy.ARRAYS, reject={CLIPS[2][0]})
    layout = Layout(path)
    assert compact(layout, Ledger(layout))
    toy.extract(path, CLIPS, toy.ARRAYS, retry=True)
    assert compact(layout, Ledger(layout))
    toy.assert_sound(path, CLIPS)
    return path


@pytest.fixture
def damaged(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "c"))


class Maker:
    """Makes toy features again; counts what it was asked for."""

    def __init__(self, refuse: str = "", other: float = 0, doubt: str = "") -> None:
        self.asked: list[tuple[str, set[str], set[str]]] = []
        self._refuse, self._other, self._doubt = refuse, other, doubt

    def __call__(self, root):
        return self.remake

    def remake(self, clip, arrays, raw):
        self.asked.append((clip.id, set(arrays), set(raw)))
        if clip.id == self._refuse:
            raise InputRejected("its file is gone", stage="decode", hint="bring it back")
        for name, stored in raw.items():
            np.testing.assert_array_equal(stored, _values(clip, name))
        values = {name: _values(clip, name) + toy_type(name, self._other) for name in arrays}
        return Remade(values, {"decoder": "toy 2"}, self._doubt)


def _spec(name: str):
    return next(array for array in toy.ARRAYS if array.name == name)


def toy_type(name: str, value: float):
    return np.dtype(_spec(name).dtype).type(value)


def _values(clip, name: str) -> np.ndarray:
    return np.stack([toy.value(clip.id, _spec(name), segment) for segment in range(clip.segments)])


def _unit(path: Path, clip: str) -> int:
    return int(open_cache(path).rows([clip])[0]) // toy.UNIT_ROWS


def _files(path: Path) -> list[str]:
    found = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return [name for name in found if not name.endswith("lock")]


def _assert_repaired(path: Path, expected: str) -> None:
    maker = Maker()
    report = repair(path, maker)
    assert report.ok, report.failed
    assert not report.changed
    assert verify(path).ok, verify(path).faults
    assert open_cache(path).content_hash() == expected


def test_a_sound_cache_is_left_alone(damaged):
    before = {name: (damaged / name).read_bytes() for name in _files(damaged)}
    maker = Maker()
    report = repair(damaged, maker)
    assert (report.ok, report.documents, report.shards, report.rows) == (True, [], [], 0)
    assert not maker.asked
    assert {name: (damaged / name).read_bytes() for name in _files(damaged)} == before


def _flips(path: Path, per_file: int) -> None:
    rng, expected = random.Random(5), open_cache(path).content_hash()
    for name in _files(path):
        if not (path / name).exists():  # an old index of the ledger, deleted because it was damaged
            continue
        size = (path / name).stat().st_size
        for offset in sorted({rng.randrange(size) for _ in range(per_file)}):
            if not (path / name).exists():
                break
            data = bytearray((path / name).read_bytes())
            data[offset % len(data)] ^= 1 << rng.randrange(8)
            (path / name).write_bytes(data)
            report = verify(path)
            assert any(name in fault.path for fault in report.faults), f"{name}: flip at {offset} was not found"
            for fault in report.faults:
                if fault.segment is not None:
                    _assert_unreadable(path, fault)
            _assert_repaired(path, expected)
    toy.assert_sound(path, CLIPS)


def _assert_unreadable(path: Path, fault) -> None:
    cache = open_cache(path)
    if fault.clip in cache.clips() and cache.rows([fault.clip])[0] // toy.UNIT_ROWS == fault.unit:  # not superseded
        with pytest.raises(CorruptionFound, match=fault.array):
            cache.read(cache.rows([fault.clip]), [fault.array], access="pread")


def test_every_flipped_byte_is_repaired(damaged):
    _flips(damaged, 1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_thousand_flipped_bytes_are_found_and_repaired(damaged):
    _flips(damaged, -(-2000 // len(_files(damaged))))


def _lose(damaged: Path, way_of: Callable[[int], str]) -> None:
    """Loses every file in turn, in the way that `way_of` gives its number, and repairs it."""
    expected = open_cache(damaged).content_hash()
    for number, name in enumerate(_files(damaged)):
        file, way = damaged / name, way_of(number)
        if not file.exists():  # a damaged index of the ledger is replaced by a new one
            continue
        if way == "deleted":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if way == "cut" else 0])
        report = verify(damaged)
        said = (
            name.replace(".json", ".") if "/compact/" in name else name
        )  # without its document, its tables are strays
        assert any(said in fault.path for fault in report.faults), f"{name} was {way}, and verify does not name it"
        _assert_repaired(damaged, expected)
    toy.assert_sound(damaged, CLIPS)


WAYS = ("deleted", "cut", "emptied")


def test_every_file_is_repaired(damaged):
    _lose(damaged, lambda number: WAYS[number % 3])


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_file_is_repaired_whatever_happened_to_it(damaged, way):
    _lose(damaged, lambda number: way)


def test_a_whole_array_is_made_again_from_what_is_stored(damaged):
    expected = open_cache(damaged).content_hash()
    for file in (damaged / toy.BLOCK.name).glob("c.*"):
        file.unlink()
    maker = Maker()
    report = repair(damaged, maker)
    assert report.ok
    assert all(arrays == {toy.BLOCK.name} and toy.FRAMES.name in raw for _, arrays, raw in maker.asked)
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_only_damaged_rows_are_made_again(damaged):
    clip, _, _ = next(clip for clip in CLIPS if clip[1] > 2)
    file = damaged / toy.BLOCK.shard_key(_unit(damaged, clip))
    data = bytearray(file.read_bytes())
    at = data.index(toy.value(clip, toy.BLOCK, 1).tobytes())
    data[at] ^= 1
    file.write_bytes(data)
    maker = Maker(other=0)
    report = repair(damaged, maker)
    assert report.rows == 1
    assert [asked[:2] for asked in maker.asked] == [(clip, {toy.BLOCK.name})]
    toy.assert_sound(damaged, CLIPS)


def test_what_comes_back_otherwise_is_said(damaged):
    cache = open_cache(damaged)
    clip = CLIPS[0][0]
    file = damaged / toy.LARGE.shard_key(_unit(damaged, clip))
    data = bytearray(file.read_bytes())
    data[data.index(toy.value(clip, toy.LARGE, 0).tobytes())] ^= 1
    file.write_bytes(data)
    report = repair(damaged, Maker(other=1))
    assert report.changed == [clip]
    assert verify(damaged).ok
    again = open_cache(damaged)
    assert again.content_hash() != cache.content_hash()
    read = again.read(again.rows([clip])[:1], [toy.LARGE.name])[toy.LARGE.name][0]
    np.testing.assert_array_equal(read, toy.value(clip, toy.LARGE, 0) + np.float32(1))
    assert again.clips()[clip].provenance["decoder"] == "toy 1; toy 2"


def test_what_cannot_be_made_again_stays_missing_and_the_rest_comes_back(damaged):
    cache = open_cache(damaged)
    units: dict[int, list[str]] = {}
    for found in cache.clips():
        units.setdefault(_unit(damaged, found), []).append(found)
    unit, (clip, *others) = next((unit, clips) for unit, clips in units.items() if len(clips) > 1)
    (damaged / toy.FRAMES.shard_key(unit)).unlink()
    report = repair(damaged, Maker(refuse=clip))
    assert report.failed == {clip: "its file is gone (bring it back)"}
    again = open_cache(damaged)
    for other in others:
        again.read(again.rows([other]), [toy.FRAMES.name])
    with pytest.raises(CorruptionFound, match=f"{clip}.*frames"):
        again.read(again.rows([clip]), [toy.FRAMES.name])
    assert {fault.clip for fault in verify(damaged).faults} == {clip}
    assert repair(damaged, Maker()).ok
    assert open_cache(damaged).content_hash() == cache.content_hash()
    toy.assert_sound(damaged, CLIPS)


def test_a_document_lost_with_its_twin_is_named(damaged):
    layout = Layout(damaged)
    path = layout.spec("visual")
    for place in (path, layout.twin(path)):
        place.write_bytes(place.read_bytes()[:-2])
    with pytest.raises(CorruptionFound, match=r"spec-visual.json: neither it nor its twin is sound.*backup"):
        repair(damaged, Maker())


def test_a_record_lost_with_its_twin_comes_back_from_the_compacted_ledger(damaged):
    expected, layout = open_cache(damaged).content_hash(), Layout(damaged)
    for path in (layout.record(0, 0), layout.plan_document(0)):
        good = path.read_bytes()
        for place in (path, layout.twin(path)):
            place.unlink()
        assert str(path) in [fault.path for fault in verify(damaged).faults]
        assert repair(damaged, Maker()).documents == [str(path), str(layout.twin(path))]
        assert path.read_bytes() == good
    assert open_cache(damaged).content_hash() == expected


def test_a_damaged_index_of_the_ledger_stops_nobody(damaged):
    expected = open_cache(damaged).content_hash()
    newest = max((damaged / "ledger" / "compact").glob("*.records.parquet"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert open_cache(damaged).content_hash() == expected
    assert not verify(damaged).ok
    _assert_repaired(damaged, expected)


def test_a_stale_temporary_never_comes_back_over_a_repaired_file(damaged):
    """What recovery does with a file that a record names is not done to one that a repair has replaced."""
    layout = Layout(damaged)
    unit = _unit(damaged, CLIPS[0][0])
    old = Ledger(layout).current(unit, toy.BLOCK.name)
    file = damaged / old.path
    good = file.read_bytes()
    file.unlink()
    assert repair(damaged, Maker()).ok
    left = layout.temporary(old.temporary)
    left.parent.mkdir()
    left.write_bytes(good[:-1] + b"\0")
    toy.assert_sound(damaged, CLIPS)
    assert not left.exists()


def test_no_cache_no_repair(tmp_path):
    with pytest.raises(AvpipeError, match="is no cache"):
        repair(tmp_path, Maker())


@pytest.mark.parametrize("chosen", range(4))
def test_a_repair_that_is_stopped_can_be_repeated(sound, tmp_path, monkeypatch, chosen):
    """Stopped before every fourth operation on files, from the `chosen`-th on."""

    def stop():
        raise Stop

    expected, step = open_cache(sound).content_hash(), chosen
    while True:
        path, reached = _copy_with_damage(sound, tmp_path / f"c{step}"), []
        with monkeypatch.context() as patched, suppress(Stop):
            _before_step(patched, step, stop, reached)
            repair(path, Maker())
        assert repair(path, Maker()).ok
        assert verify(path).ok
        assert open_cache(path).content_hash() == expected
        assert toy.left_temporaries(path) == []
        if not reached:
            return
        step += 4


EXTRA = ArraySpec("audio/blocks.1", (2, 4), "float16")


@pytest.mark.parametrize("chosen", range(5))
def test_a_repair_that_is_overtaken_by_an_extraction(sound, tmp_path, monkeypatch, chosen):
    """A writer to which the lease looks expired adds an array before every fifth operation of a rewrite."""
    monkeypatch.setattr(lease.Leases, "_held_by_another", lambda *args: False)
    arrays, step = (*toy.ARRAYS, EXTRA), chosen
    unbroken = Path(shutil.copytree(sound, tmp_path / "unbroken"))
    toy.extract(unbroken, CLIPS, arrays)
    expected = open_cache(unbroken).content_hash()
    while True:
        path, reached = _copy_with_damage(sound, tmp_path / f"c{step}"), []
        with monkeypatch.context() as patched:
            _at_rewrite(patched, step, lambda path=path: toy.extract(path, CLIPS, arrays), reached)
            assert repair(path, Maker()).ok
        toy.extract(path, CLIPS, arrays)
        toy.assert_sound(path, CLIPS, arrays)
        assert open_cache(path).content_hash() == expected
        assert toy.left_temporaries(path) == []
        if not reached:
            return
        step += 5


def test_one_repair_at_a_time(sound, tmp_path, monkeypatch):
    path, said = _copy_with_damage(sound, tmp_path / "c"), []

    def another():
        with pytest.raises(UsageError, match="another repair"):
            repair(path, Maker())
        said.append(True)

    _at_rewrite(monkeypatch, 0, another, [])
    assert repair(path, Maker()).ok
    assert said
    toy.assert_sound(path, CLIPS)


def _refuse_all(clip, arrays, raw):
    raise InputRejected("no media here", stage="decode")


def test_what_cannot_be_opened_is_left_alone(damaged, monkeypatch):
    """A file may be locked, or its server away for a moment: that says nothing about its bytes."""
    original, name = shardcheck._open, toy.FRAMES.name

    def refused(layout, file):
        if file.array == name:
            raise PermissionError(13, "Permission denied")
        return original(layout, file)

    before = {path: path.read_bytes() for path in damaged.glob("*/*/c.*")}
    monkeypatch.setattr(shardcheck, "_open", refused)
    report = repair(damaged, Maker())
    assert {path.rpartition("/")[0] for path in report.failed} == {name}
    assert all("Permission denied: mend that first" in why for why in report.failed.values())
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in damaged.glob("*/*/c.*")} == before
    toy.assert_sound(damaged, CLIPS)


def test_a_bad_sector_costs_the_row_in_it(damaged, monkeypatch):
    clip = next(clip for clip, segments, _ in CLIPS if segments > 2)
    unit = _unit(damaged, clip)
    file = damaged / toy.LARGE.shard_key(unit)
    at = file.read_bytes().index(toy.value(clip, toy.LARGE, 1).tobytes())
    original, expected = os.preadv, open_cache(damaged).content_hash()

    def preadv(descriptor, buffers, offset):
        if offset == at and os.path.samestat(os.fstat(descriptor), status):
            raise OSError(5, "Input/output error")
        return original(descriptor, buffers, offset)

    status = file.stat()
    monkeypatch.setattr(os, "preadv", preadv)
    assert [fault.segment for fault in verify(damaged).faults if fault.clip == clip] == [1]
    assert repair(damaged, Maker()).rows == 1
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_a_damaged_index_costs_no_row(damaged):
    """Where rows lie as writers put them, the index follows from the plan, and the hash of the file proves it."""
    expected = open_cache(damaged).content_hash()
    for file in sorted(damaged.glob("visual/*/c.*")):
        data = bytearray(file.read_bytes())
        data[-9] ^= 4
        file.write_bytes(data)
        report = repair(damaged, lambda root: _refuse_all)
        if report.ok:
            assert report.rows == 0
            assert open_cache(damaged).content_hash() == expected
        else:  # a clip was rejected half-way when it was written, so rows lie elsewhere: nothing can be proved
            assert file.read_bytes() == data
            assert repair(damaged, Maker()).ok
    toy.assert_sound(damaged, CLIPS)


def test_a_cut_file_is_kept_where_its_rows_cannot_be_made_again(damaged):
    file = damaged / toy.FRAMES.shard_key(_unit(damaged, CLIPS[0][0]))
    data = file.read_bytes()[:-1]
    file.write_bytes(data)
    report = repair(damaged, lambda root: _refuse_all)
    assert "it was left as it is" in report.failed[str(file.relative_to(damaged))]
    assert file.read_bytes() == data
    assert repair(damaged, Maker()).ok
    toy.assert_sound(damaged, CLIPS)


def test_one_modality_does_not_wait_for_the_other(damaged):
    clip = CLIPS[0][0]
    unit, expected = _unit(damaged, clip), open_cache(damaged).content_hash()
    for array in (toy.BLOCK, toy.SAMPLES):
        file = damaged / array.shard_key(unit)
        data = bytearray(file.read_bytes())
        data[data.index(toy.value(clip, array, 0).tobytes())] ^= 1
        file.write_bytes(data)

    def deaf(clip, arrays, raw):
        return _refuse_all(clip, arrays, raw) if toy.SAMPLES.name in arrays else Maker().remake(clip, arrays, raw)

    report = repair(damaged, lambda root: deaf)
    assert (report.rows, set(report.failed)) == (1, {clip})
    assert {fault.array for fault in verify(damaged).faults} == {toy.SAMPLES.name}
    records = sorted((damaged / "ledger" / "records").iterdir())
    assert set(repair(damaged, lambda root: deaf).failed) == {clip}
    assert sorted((damaged / "ledger" / "records").iterdir()) == records  # nothing gained, nothing written
    assert repair(damaged, Maker()).ok
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def _flip_row(path: Path, array: ArraySpec, clip: str, segment: int) -> None:
    file = path / array.shard_key(_unit(path, clip))
    data = bytearray(file.read_bytes())
    data[data.index(toy.value(clip, array, segment).tobytes())] ^= 1
    file.write_bytes(data)


def test_doubtful_media_are_taken_where_the_content_proves_them(damaged):
    expected, clip = open_cache(damaged).content_hash(), CLIPS[0][0]
    _flip_row(damaged, toy.FRAMES, clip, 0)
    _flip_row(damaged, toy.BLOCK, clip, 0)
    report = repair(damaged, Maker(other=1, doubt="it has another time stamp"))
    assert (report.failed, report.shards) == ({clip: "it has another time stamp"}, [])
    assert repair(damaged, Maker(doubt="it has another time stamp")).rows == 2
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_a_doubt_about_one_modality_leaves_the_other_alone(damaged):
    expected, clip = open_cache(damaged).content_hash(), CLIPS[0][0]
    _flip_row(damaged, toy.FRAMES, clip, 0)
    _flip_row(damaged, toy.SAMPLES, clip, 0)

    def half_sure(clip, arrays, raw):
        doubtful = toy.FRAMES.name in arrays
        return Maker(other=doubtful, doubt="another time stamp" if doubtful else "").remake(clip, arrays, raw)

    report = repair(damaged, lambda root: half_sure)
    assert (report.failed, report.shards) == (
        {clip: "another time stamp"},
        [toy.SAMPLES.shard_key(_unit(damaged, clip))],
    )
    assert repair(damaged, Maker()).rows == 1
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_features_of_sound_frames_come_back_though_another_frame_is_lost(damaged):
    clip = next(clip for clip, segments, _ in CLIPS if segments > 2)
    expected, segments = open_cache(damaged).content_hash(), {name: count for name, count, _ in CLIPS}[clip]
    _flip_row(damaged, toy.FRAMES, clip, 1)
    for segment in range(segments):
        _flip_row(damaged, toy.BLOCK, clip, segment)

    def blind(clip, arrays, raw):
        if toy.FRAMES.name not in raw:
            return _refuse_all(clip, arrays, raw)
        assert not raw[toy.FRAMES.name][1].any()
        return Remade({name: _values(clip, name) for name in arrays}, {})

    report = repair(damaged, lambda root: blind)
    assert (report.rows, set(report.failed)) == (segments - 1, {clip})
    assert {(fault.array, fault.segment) for fault in verify(damaged).faults} == {
        (toy.FRAMES.name, 1),
        (toy.BLOCK.name, 1),
    }
    assert repair(damaged, Maker()).ok
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_a_document_of_another_cache_is_not_taken_for_this_one_s(damaged, tmp_path):
    toy.extract(tmp_path / "other", CLIPS, unit_rows=2 * toy.UNIT_ROWS)
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    layout, foreign = Layout(damaged), Layout(tmp_path / "other")
    layout.cache_document.write_bytes(foreign.cache_document.read_bytes())
    with pytest.raises(CorruptionFound, match=r"cache.json: it and its twin are both whole, and say different things"):
        repair(damaged, Maker())
    layout.twin(layout.cache_document).write_bytes(foreign.cache_document.read_bytes())
    with suppress(AvpipeError):
        repair(damaged, lambda root: _refuse_all)
    after = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    assert [path for path in before if path.name.startswith("c.") and after[path] != before[path]] == []


def test_a_ledger_of_which_only_the_twins_are_left_comes_back(damaged):
    expected = open_cache(damaged).content_hash()
    for path in (damaged / "ledger").iterdir():
        if path.name != "twins":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CorruptionFound, match="avpipe cache repair"):
        toy.begin(damaged)
    assert len(repair(damaged, Maker()).documents) > 8
    assert open_cache(damaged).content_hash() == expected
    toy.assert_sound(damaged, CLIPS)


def test_a_folder_in_the_place_of_a_shard_is_named(damaged):
    file = damaged / toy.BLOCK.shard_key(0)
    file.unlink()
    file.mkdir()
    assert "move it away" in next(fault.message for fault in verify(damaged).faults)
    assert "move it away" in repair(damaged, Maker()).failed[toy.BLOCK.shard_key(0)]
    file.rmdir()
    assert repair(damaged, Maker()).ok
    toy.assert_sound(damaged, CLIPS)


def test_verification_takes_no_repair_for_damage(damaged, monkeypatch):
    (damaged / toy.BLOCK.shard_key(_unit(damaged, CLIPS[0][0]))).unlink()
    original = scan.scan_units

    def after_a_repair(*args):
        monkeypatch.undo()
        assert repair(damaged, Maker(other=1)).shards
        return original(*args)

    monkeypatch.setattr(sys.modules[verify.__module__], "scan_units", after_a_repair)
    report = verify(damaged)
    assert report.ok, report.faults


def _at_rewrite(patched: pytest.MonkeyPatch, step: int, action: Callable[[], object], reached: list[str]) -> None:
    """Calls `action` before one operation of the first rewrite; no lock is held there that `action` would wait for."""
    original, begun = CacheWriter.rewrite, []

    def rewrite(writer, *args):
        if begun:
            return original(writer, *args)
        begun.append(True)
        with pytest.MonkeyPatch.context() as inner:
            _before_step(inner, step, action, reached)
            return original(writer, *args)

    patched.setattr(CacheWriter, "rewrite", rewrite)


class Stop(BaseException):
    """Ends a repair as an exception would."""


def _copy_with_damage(sound: Path, path: Path) -> Path:
    shutil.copytree(sound, path)
    (path / toy.BLOCK.shard_key(_unit(path, CLIPS[0][0]))).unlink()
    (path / "ledger" / "records" / "00000000.0000.json").write_bytes(b"")
    return path


def _before_step(patched: pytest.MonkeyPatch, step: int, action: Callable[[], object], reached: list[str]) -> None:
    """Calls `action` before one operation on files, counted from 0; `reached` then holds its name."""
    left = iter(range(step, -1, -1))

    def interposed(name, original):
        def operation(*args):
            if next(left, -1) == 0:
                reached.append(name)
                action()
            return original(*args)

        return operation

    for name in ("sync_folder", "sync_file", "write_file", "rename", "link", "remove"):
        patched.setattr(durable, name, interposed(name, getattr(durable, name)))
