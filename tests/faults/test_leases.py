"""Leases decide who works and nothing else: who has one, when it is free, and every race that one can lose."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cache_toy as toy
import pytest
from stalls import before_operation

from avpipe.pipeline.cache import CacheWriter, UnitWork, lease, open_cache, verify
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lease import Leases
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.recover import publish_files, recover
from avpipe.pipeline.errors import EnvironmentLacking

CLIPS = [toy.clips(4)[i] for i in (0, 1, 3)]  # 6 rows: one unit
ARRAYS = (toy.FRAMES, toy.BLOCK, toy.SAMPLES)


def _begin(path: Path) -> tuple[CacheWriter, UnitWork]:
    writer = toy.begin(path)
    return writer, writer.plan(CLIPS, ARRAYS).pending[0]


def _expire(path: Path, unit: int = 0) -> None:
    """What a lease looks like whose holder has not renewed it for long."""
    os.utime(Layout(path).lease(unit), (1, 1))


def test_one_writer_at_a_time_has_a_unit(tmp_path):
    with _begin(tmp_path / "c")[0] as a, CacheWriter.open(tmp_path / "c") as b:
        assert a.claim(0)
        assert a.claim(0)
        assert not b.claim(0)
        assert b.holder(0) == a.holder(0) != ""
        assert b.claim(1)
        assert not a.claim(1)
        a.release(0)
        assert b.holder(0) == ""
        assert b.claim(0)


def test_closing_lets_go_of_everything(tmp_path):
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert [a.claim(unit) for unit in range(3)] == [True] * 3
        a.close()
        assert [p.name for p in Layout(path).leases.iterdir()] == ["lock"]
        assert [b.claim(unit) for unit in range(3)] == [True] * 3


def test_a_dead_writer_holds_nothing(tmp_path):
    path = tmp_path / "c"
    _begin(path)[0].close()
    child = os.fork()
    if not child:
        writer = CacheWriter.open(path)
        writer.claim(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert Layout(path).lease(0).exists()
    (dead,) = [folder for folder in Layout(path).temporaries.iterdir() if str(child) in folder.name]
    leases = Leases(Layout(path), "me")  # without the recovery that opening does
    assert dead.exists()
    assert leases.claim(0)
    leases.close()


def test_a_writer_that_does_not_renew_loses_its_lease_and_does_not_get_it_back(tmp_path):
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(0)
        _expire(path)
        assert b.claim(0)
        assert not a.claim(0)
        a.release(0)
        assert not a.claim(0)
        assert b.claim(0)


@pytest.mark.alone
def test_a_lease_is_renewed_as_long_as_its_writer_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.4)
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(0)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert not b.claim(0)
            time.sleep(0.02)
        a.close()
        assert b.claim(0)
    time.sleep(0.3)
    assert "lease-renewal" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.alone
def test_a_lease_is_not_renewed_for_a_writer_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(lease, "STALLED_SECONDS", 0.6)
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(0)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            a.progress()
            assert not b.claim(0)
            time.sleep(0.02)
        end = time.monotonic() + 10
        while not b.claim(0):  # A hangs
            assert time.monotonic() < end
            time.sleep(0.02)
        a.progress()  # it wakes up, too late
        time.sleep(0.3)
        assert b.holder(0) == b._folder.name


def test_renewing_leaves_the_lease_of_a_successor_alone(tmp_path):
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(0)
        _expire(path)
        assert b.claim(0)
        _expire(path)
        a._leases._renew_once()
        assert Layout(path).lease(0).stat().st_mtime == 1
        b._leases._renew_once()
        assert Layout(path).lease(0).stat().st_mtime > 1


def test_the_clock_of_the_file_system_counts(tmp_path, monkeypatch):
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(0)
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: 4e9)  # the clock of another host, decades ahead
            assert not b.claim(0)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"writer": 3}', '{"writer": "../x"}', '{"writer": "nobody"}', "\xff" * 5000]
)
def test_a_lease_that_says_nothing_is_free(tmp_path, content):
    path = tmp_path / "c"
    with _begin(path)[0] as a:
        Layout(path).leases.mkdir()
        Layout(path).lease(0).write_text(content, encoding="latin-1")
        assert a.holder(0) in ("", "nobody")
        assert a.claim(0)


def test_leases_of_the_dead_are_swept_when_somebody_begins(tmp_path):
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert a.claim(1)
        Layout(path).lease(7).write_text('{"writer": "gone-1-abcd"}')
        assert b.claim(2)
        assert sorted(p.name for p in Layout(path).leases.iterdir()) == ["00000001", "00000002", "lock"]


def test_recovery_removes_the_leases_of_the_dead(tmp_path):
    path = tmp_path / "c"
    child = os.fork()
    if not child:
        writer = _begin(path)[0]
        writer.claim(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert Layout(path).lease(0).exists()
    with CacheWriter.open(path) as a, CacheWriter.open(path):
        assert not Layout(path).lease(0).exists()
        assert a.claim(0)
        open_cache(path)
        assert Layout(path).lease(0).exists()


def test_links_among_the_leases_are_not_followed(tmp_path):
    path, mine = tmp_path / "c", tmp_path / "mine"
    mine.write_text("precious")
    with _begin(path)[0] as a:
        assert a.claim(1)
        Layout(path).lease(0).symlink_to(mine)
        with pytest.raises(EnvironmentLacking, match="symbolic link"):
            a.claim(0)
    assert mine.read_text() == "precious"
    with _begin(tmp_path / "d")[0] as b:
        Layout(tmp_path / "d").leases.symlink_to(tmp_path)
        with pytest.raises(EnvironmentLacking, match="symbolic link"):
            b.claim(0)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(path, flags, mode=0o777):
        raise OSError(28, "No space left on device")

    with _begin(tmp_path / "c")[0] as a:
        monkeypatch.setattr("avpipe.pipeline.cache.lease.os.open", full)
        with pytest.raises(EnvironmentLacking, match="free some space"):
            a.claim(0)
        monkeypatch.undo()


def test_who_hangs_with_the_lock_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LOCK_SECONDS", 0.2)
    path = tmp_path / "c"
    with _begin(path)[0] as a, CacheWriter.open(path) as b:
        assert b.claim(1)
        with b._leases._locked():
            begun = time.monotonic()
            assert a.claim(0)
            assert not a.claim(1)
            assert 0.2 < time.monotonic() - begun < 5
        assert not b.claim(0)


# Races: one writer stops before any operation of its commit while the other does what it can.


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("unbroken") / "c"
    toy.extract(path, CLIPS, ARRAYS)
    return open_cache(path).content_hash()


def _committed_files(path: Path) -> dict[str, str]:
    records = [record for unit in Ledger(Layout(path)).records.values() for record in unit]
    files = [path / file.path for record in records for file in record.files]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()}


def _assert_one_winner(path: Path, expected: str, outcomes: list[bool], before: dict[str, str]) -> None:
    assert sorted(outcomes) == [False, True]
    assert len(list(Layout(path).records.iterdir())) == 1
    after = _committed_files(path)
    assert len(after) == len(ARRAYS)
    assert before.items() <= after.items(), "a committed file has changed"
    report = verify(path)
    assert report.ok, report.faults
    assert toy.left_temporaries(path) == []
    assert open_cache(path).content_hash() == expected
    toy.assert_sound(path, CLIPS, ARRAYS)


def _race(path: Path, expected: str, stop_at: int | None, stopped: str) -> list[str]:
    """A writer A stalls with a unit until its lease is over; B takes the unit over and does it from scratch.

    Args:
        path: for a new cache.
        expected: hash of its content in the end.
        stop_at: the operation of a commit before which the other writer acts; None: it acts afterwards.
        stopped: whose commit is stopped: `a`, the stale one, or `b`, its successor.

    Returns:
        the log of operations of the commit that was stopped.
    """
    (a, work), b, outcomes, before = _begin(path), CacheWriter.open(path), [], {}
    assert a.claim(work.unit)
    stale = a.unit(work)
    toy.fill(stale)

    def take_over() -> UnitWork | None:
        _expire(path)
        assert b.claim(work.unit)
        return b.left(work)

    def finish(unit) -> None:
        outcomes.append(unit.commit())
        before.update(_committed_files(path))

    if stopped == "a":

        def act() -> None:
            CacheWriter.open(path).close()  # publishes what A has committed
            left = take_over()
            if left is not None:
                finish(_filled(b, left))
            else:
                before.update(_committed_files(path))
                unit = _filled(b, work)  # B knows of no record yet, say: it tries all the same
                finish(unit)
            b.release(work.unit)

        with before_operation(stop_at, act) as log:
            outcomes.append(stale.commit())
        operations = log
    else:
        successor = _filled(b, take_over())
        with before_operation(stop_at, lambda: finish(stale)) as log:
            outcomes.append(successor.commit())
        operations = log
    if stop_at is None:
        act() if stopped == "a" else finish(stale)
    a.close()
    b.close()
    _assert_one_winner(path, expected, outcomes, before)
    return list(operations)


def _filled(writer: CacheWriter, work: UnitWork):
    unit = writer.unit(work)
    toy.fill(unit, backwards=True)
    return unit


@pytest.mark.parametrize("stopped", ["a", "b"])
def test_a_stale_writer_and_its_successor(tmp_path, expected, stopped):
    steps = len(_race(tmp_path / "whole", expected, None, stopped))
    assert steps > 10
    for step in range(steps):
        _race(tmp_path / str(step), expected, step, stopped)


def _publish_against(path: Path, expected: str, stop_at: int | None, rival: Callable[[Path], None]) -> list[str]:
    """A has put its record; before one of the operations that follow, a rival publishes the same files."""
    a, work = _begin(path)
    with a, a.unit(work) as unit:
        toy.fill(unit)
        unit.seal()
        assert unit.put_record({})
        with before_operation(stop_at, lambda: rival(path)) as log:
            unit.publish()
        before = _committed_files(path)
    _assert_one_winner(path, expected, [True, False], before)
    return list(log)


RIVALS: dict[str, Callable[[Path], None]] = {
    "a reader": lambda path: open_cache(path),
    "a writer": lambda path: CacheWriter.open(path).close(),
    "recovery": lambda path: recover(Ledger(Layout(path))),
    "another publisher": lambda path: publish_files(
        Layout(path), [file for record in Ledger(Layout(path)).records[0] for file in record.files]
    ),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_both_publish_at_once(tmp_path, expected, rival):
    steps = len(_publish_against(tmp_path / "whole", expected, None, RIVALS[rival]))
    assert steps >= 1 + 2 * len(ARRAYS)
    for step in range(steps):
        _publish_against(tmp_path / str(step), expected, step, RIVALS[rival])


def test_the_writer_publishes_while_recovery_does(tmp_path, expected):
    """The reverse: recovery stops before each of its operations while the writer publishes everything."""

    def race(path: Path, stop_at: int | None) -> list[str]:
        a, work = _begin(path)
        with a, a.unit(work) as unit:
            toy.fill(unit)
            unit.seal()
            assert unit.put_record({})
            ledger = Ledger(Layout(path))
            with before_operation(stop_at, unit.publish) as log:
                recover(ledger)
            if stop_at is None:
                unit.publish()
        _assert_one_winner(path, expected, [True, False], _committed_files(path))
        return list(log)

    for step in range(len(race(tmp_path / "whole", None))):
        race(tmp_path / str(step), step)
