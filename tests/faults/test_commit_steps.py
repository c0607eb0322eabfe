"""A writer stopped, or overtaken, between any two steps: a unit is committed as a whole or absent, never torn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import cache_toy as toy
import pytest

from avpipe.pipeline.cache import CacheWriter, durable, open_cache, verify
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder, try_lock
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.errors import EnvironmentLacking

CLIPS = [toy.clips(4)[i] for i in (0, 1, 3)]  # 6 rows: one unit
ARRAYS = (toy.FRAMES, toy.BLOCK, toy.SAMPLES)
COMMIT_STEPS = 19


class Stop(BaseException):
    """Ends a writer as an exception would."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("unbroken") / "c"
    toy.extract(path, CLIPS, ARRAYS)
    return open_cache(path).content_hash()


def _assert_all_or_nothing_then_finish(path: Path, expected: str) -> None:
    cache = open_cache(path)
    assert len(cache.clips([a.name for a in ARRAYS])) in (0, 3)
    assert verify(path).ok, verify(path).faults
    toy.extract(path, CLIPS, ARRAYS)
    toy.assert_sound(path, CLIPS, ARRAYS)
    assert open_cache(path).content_hash() == expected
    assert toy.left_temporaries(path) == []


def _planned(path: Path) -> tuple[CacheWriter, object]:
    writer = toy.begin(path)
    return writer, writer.plan(CLIPS, ARRAYS).pending[0]


def _in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process; returns how it ended."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_number_of_steps_is_known(tmp_path, at_step):
    writer, work = _planned(tmp_path / "c")
    with writer:
        log = at_step(-1, _kill)
        assert toy.commit(writer, work)
    files = len(ARRAYS)
    seal, record = ["sync_file"] * files + ["sync_folder"], ["write_file", "link", "remove", "sync_folder"]
    publish = ["sync_folder", *["rename"] * files, *["sync_folder"] * files]
    twin = ["make_folder", "write_file", "rename", "sync_folder"]
    assert log == seal + record + publish + twin
    assert len(log) == COMMIT_STEPS


@pytest.mark.parametrize("step", range(COMMIT_STEPS))
def test_stopped_by_an_exception(tmp_path, at_step, expected, step):
    def stop():
        raise Stop

    writer, work = _planned(tmp_path / "c")
    at_step(step, stop)
    with pytest.raises(Stop), writer:
        toy.commit(writer, work)
    _assert_all_or_nothing_then_finish(tmp_path / "c", expected)


@pytest.mark.parametrize("step", range(COMMIT_STEPS))
def test_stopped_by_sigkill(tmp_path, at_step, expected, step):
    _planned(tmp_path / "c")[0].close()

    def commit():
        writer = CacheWriter.open(tmp_path / "c")
        at_step(step, _kill)
        toy.commit(writer, writer.plan(CLIPS, ARRAYS).pending[0])

    assert _in_child(commit) == signal.SIGKILL
    _assert_all_or_nothing_then_finish(tmp_path / "c", expected)


@pytest.mark.parametrize("step", range(0, 80, 3))
def test_sigkill_anywhere_from_the_first_folder_on(tmp_path, at_step, expected, step):
    def everything():
        at_step(step, _kill)
        toy.extract(tmp_path / "c", CLIPS, ARRAYS)

    assert _in_child(everything) == signal.SIGKILL
    toy.extract(tmp_path / "c", CLIPS, ARRAYS)
    toy.assert_sound(tmp_path / "c", CLIPS, ARRAYS)
    assert open_cache(tmp_path / "c").content_hash() == expected
    assert toy.left_temporaries(tmp_path / "c") == []


@pytest.mark.parametrize("step", range(COMMIT_STEPS))
@pytest.mark.parametrize("rival", ["commits", "dies after its record"])
def test_two_writers_on_one_unit(tmp_path, at_step, expected, step, rival):
    """Writer A is halted before a step while B opens the cache and does the same unit, in files of other bytes."""
    path, outcome = tmp_path / "c", {}
    writer, work = _planned(path)

    def overtake():
        other = CacheWriter.open(path)
        if rival == "commits":
            outcome["b"] = toy.commit(other, work, backwards=True)
            other.close()
            return
        unit = other.unit(work)
        toy.fill(unit, backwards=True)
        unit.seal()
        outcome["b"] = unit.put_record({})
        if not outcome["b"]:
            unit.discard()

    with writer:
        at_step(step, overtake)
        outcome["a"] = toy.commit(writer, work)
    assert sorted(outcome.values()) == [False, True]
    assert len(list((path / "ledger" / "records").iterdir())) == 1
    _assert_all_or_nothing_then_finish(path, expected)


@pytest.mark.parametrize("step", range(8))
def test_rivals_with_different_arrays_share_the_unit(tmp_path, at_step, expected, step):
    path = tmp_path / "c"
    with toy.begin(path) as a, toy.begin(path) as b:
        first = a.plan(CLIPS, ARRAYS[:2]).pending[0]
        second = b.plan(CLIPS, ARRAYS[1:]).pending[0]
        results = []
        at_step(step, lambda: results.append(toy.commit(b, second, backwards=True)))
        results.append(toy.commit(a, first))
    assert results == [True, True]
    records = Ledger(Layout(path)).records[0]
    assert [len(record.files) for record in records] == [2, 1]
    _assert_all_or_nothing_then_finish(path, expected)


@pytest.mark.parametrize("rejecting", ["winner", "loser"])
def test_a_loser_with_other_clips_gives_up_its_further_arrays(tmp_path, rejecting):
    path, bad = tmp_path / "c", {CLIPS[1][0]}
    with toy.begin(path) as a, toy.begin(path) as b:
        first = a.plan(CLIPS, ARRAYS[:2]).pending[0]
        second = b.plan(CLIPS, ARRAYS[1:]).pending[0]
        assert toy.commit(a, first, reject=bad if rejecting == "winner" else ())
        assert not toy.commit(b, second, reject=bad if rejecting == "loser" else ())
    assert len(Ledger(Layout(path)).records[0]) == 1
    assert {q.clip for q in open_cache(path).quarantined()} == (bad if rejecting == "winner" else set())
    assert toy.left_temporaries(path) == []
    toy.extract(path, CLIPS, ARRAYS, retry=True)
    toy.assert_sound(path, CLIPS, ARRAYS)


def test_recovery_leaves_living_writers_alone(tmp_path):
    path = tmp_path / "c"
    writer, work = _planned(path)
    with writer, writer.unit(work) as unit:
        toy.fill(unit)
        before = toy.left_temporaries(path)
        assert len(before) == len(ARRAYS)
        CacheWriter.open(path).close()
        open_cache(path)
        assert toy.left_temporaries(path) == before
        assert unit.commit()
    toy.assert_sound(path, CLIPS, ARRAYS)


def test_recovery_looks_again_once_a_writer_is_known_to_be_dead(tmp_path):
    path = tmp_path / "c"
    _planned(path)[0].close()
    stale = Ledger(Layout(path))  # read before the writer committed

    def die_after_the_record():
        writer = CacheWriter.open(path)
        unit = writer.unit(writer.plan(CLIPS, ARRAYS).pending[0])
        toy.fill(unit)
        unit.seal()
        assert unit.put_record({})
        _kill()

    assert _in_child(die_after_the_record) == signal.SIGKILL
    recover(stale)
    assert toy.left_temporaries(path) == []
    toy.assert_sound(path, CLIPS, ARRAYS)


def test_a_newborn_writer_folder_survives_a_recovery(tmp_path, monkeypatch):
    path = tmp_path / "c"
    toy.begin(path).close()
    original, born = durable.make_folder, []

    def make_and_recover(folder):
        original(folder)
        if folder.parent.name == "tmp":
            born.append(folder)
        if folder.parent.name == "tmp" and len(born) == 1:
            recover(Ledger(Layout(path)))
            assert not folder.exists()

    monkeypatch.setattr(durable, "make_folder", make_and_recover)
    folder = WriterFolder(Layout(path))
    recover(Ledger(Layout(path)))
    assert (folder.path / "lock").exists()
    assert len(born) == 2
    folder.close()
    assert not folder.path.exists()


def test_a_planner_waits_for_another(tmp_path, monkeypatch):
    """B begins to plan while A is about to put its plan: it waits, and then keeps clear of A's units."""
    path, plans = tmp_path / "c", {}
    a, b = toy.begin(path), CacheWriter.open(path)
    rival = threading.Thread(target=lambda: plans.update(b=b.plan(toy.clips(6, first=2), ARRAYS)))
    original = durable.put_if_absent

    def put_while_b_waits(target, data, temporary):
        if target.parent.name == "plan" and "a" not in plans and not rival.ident:
            rival.start()
            rival.join(0.3)
            assert rival.is_alive()
        return original(target, data, temporary)

    monkeypatch.setattr(durable, "put_if_absent", put_while_b_waits)
    plans["a"] = a.plan(toy.clips(4), ARRAYS)
    rival.join()
    placed = [clip for unit in Ledger(Layout(path)).planned.values() for clip in unit]
    assert sorted(placed) == sorted(clip for clip, _, _ in toy.clips(8))
    for work in plans["b"].pending:
        assert toy.commit(b, work)
    toy.extract(path, toy.clips(8), ARRAYS)
    toy.assert_sound(path, toy.clips(8), ARRAYS)


def test_a_lock_on_a_deleted_file_is_no_lock(tmp_path, monkeypatch):
    target = tmp_path / "lock"

    def flock_too_late(descriptor, operation):
        target.unlink()

    monkeypatch.setattr("avpipe.pipeline.cache.lock.fcntl.flock", flock_too_late)
    assert try_lock(target) is None
    monkeypatch.undo()
    descriptor = try_lock(target)
    assert descriptor is not None
    assert try_lock(target) is None
    os.close(descriptor)


def test_an_error_before_the_record_leaves_no_temporaries(tmp_path, at_step):
    def full():
        raise EnvironmentLacking("no space")

    writer, work = _planned(tmp_path / "c")
    at_step(4, full)  # the record's own temporary
    with pytest.raises(EnvironmentLacking), writer:
        toy.commit(writer, work)
    assert toy.left_temporaries(tmp_path / "c") == []
