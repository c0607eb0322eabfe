"""Behind the backbone: clips stay in order, units are committed one after the other, and every future is told once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from avpipe.pipeline.cache import PlannedClip, UnitWork
from avpipe.pipeline.errors import InputRejected
from avpipe.stages.unit_tail import ClipTokens, UnitTail

PATIENCE = 20
CLIPS = tuple(PlannedClip(f"clip {number}", number, 1) for number in range(3))
ARRAY = SimpleNamespace(name="a")


class Cache:
    """A writer that only notes what is done with it, in order, and whether the ledger was kept meanwhile."""

    def __init__(self, ledger: threading.Lock) -> None:
        self.done: list[tuple[str, object]] = []
        self.unkept: list[str] = []
        self._ledger = ledger
        self.sealing = threading.Event()
        self.may_seal = threading.Event()
        self.may_seal.set()

    def unit(self, work: UnitWork) -> Unit:
        self._needs_ledger("unit")
        return Unit(self, work.unit)

    def release(self, unit: int) -> None:
        self.done.append(("release", unit))

    def progress(self) -> None:
        pass

    def _needs_ledger(self, what: str) -> None:
        if not self._ledger.locked():
            self.unkept.append(what)


class Unit:
    """The rows of one unit in such a writer."""

    def __init__(self, cache: Cache, number: int) -> None:
        self._cache, self._number = cache, number

    def write(self, name: str, row: int, value: np.ndarray) -> None:
        pass

    def clip_done(self, planned: PlannedClip, masks: object, provenance: object) -> None:
        self._cache.done.append(("clip", planned.id))

    def reject(self, planned: PlannedClip, **why: object) -> None:
        self._cache.done.append(("reject", planned.id))

    def seal(self) -> None:
        self._cache.sealing.set()
        assert self._cache.may_seal.wait(PATIENCE)

    def put_record(self, spent: object) -> bool:
        self._cache._needs_ledger("put_record")
        self._cache.done.append(("record", self._number))
        return True

    def publish(self) -> None:
        self._cache._needs_ledger("publish")
        self._cache.done.append(("publish", self._number))

    def discard(self) -> None:
        self._cache.done.append(("discard", self._number))


@pytest.fixture
def cache():
    return Cache(threading.Lock())


def _tail(cache: Cache, encode=lambda tokens: {"a": np.zeros((1, 1))}) -> UnitTail:
    return UnitTail(cache, encode, cache._ledger)


def _begin(tail: UnitTail, number: int):
    return tail.begin(UnitWork(number, CLIPS, (ARRAY,)), {}, lambda clip, rejected: None)


def _clip(planned: PlannedClip) -> ClipTokens:
    return ClipTokens(planned, {"tap": np.zeros((1, 1, 1))}, {}, {}, {})


def test_a_rejection_comes_behind_the_clips_that_are_being_encoded(cache):
    go = threading.Event()
    tail = _tail(cache, lambda tokens: go.wait(PATIENCE) and {"a": np.zeros((1, 1))})
    unit = _begin(tail, 0)
    tail.clip(unit, _clip(CLIPS[0]))
    tail.reject(unit, CLIPS[1], InputRejected("no film", stage="decode"))
    threading.Timer(0.05, go.set).start()
    tail.clip(unit, _clip(CLIPS[2]))
    assert tail.end(unit).result(PATIENCE).rejected.keys() == {CLIPS[1].id}
    tail.close()
    assert cache.done[:3] == [("clip", CLIPS[0].id), ("reject", CLIPS[1].id), ("clip", CLIPS[2].id)]


def test_a_lease_is_let_go_of_after_the_commit_and_the_ledger_is_kept_for_it(cache):
    """Else another process could claim the unit, and find it undone."""
    tail = _tail(cache)
    assert tail.end(_begin(tail, 7)).result(PATIENCE).won
    tail.close()
    assert cache.done == [("record", 7), ("publish", 7), ("discard", 7), ("release", 7)]
    assert cache.unkept == []


def test_a_unit_is_given_up_once_the_one_before_it_is_committed(cache):
    cache.may_seal.clear()
    tail = _tail(cache)
    ended, broken = tail.end(_begin(tail, 0)), _begin(tail, 1)
    assert cache.sealing.wait(PATIENCE)
    threading.Timer(0.05, cache.may_seal.set).start()
    tail.give_up(broken)
    assert ended.result(0).won
    assert isinstance(broken.outcome.exception(0), RuntimeError)
    tail.close()
    assert [what for what in cache.done if what[0] in ("publish", "release")] == [
        ("publish", 0),
        ("release", 0),
        ("release", 1),
    ]


class Overtaken(Future):
    """The other thread tells it what became of the unit, right behind every look at whether it was told."""

    def done(self) -> bool:
        found = super().done()
        if not found:
            self.set_result("committed")
        return found


def test_an_error_while_the_commit_ends_is_no_second_error(cache):
    tail = _tail(cache)
    unit = _begin(tail, 0)
    unit.outcome = Overtaken()
    told = Future()
    told.set_result("committed")
    other = _begin(tail, 1)
    other.outcome = told  # told already, and not let go of yet
    tail._trouble.stop(KeyboardInterrupt())
    assert told.result(0) == "committed"
    tail.close()
    assert ("release", 0) in cache.done
    assert ("release", 1) in cache.done


def test_a_commit_that_ends_after_an_error_is_no_second_error(cache):
    tail, wrong = _tail(cache), OSError("no space")
    unit = _begin(tail, 0)
    unit.outcome.set_exception(wrong)
    tail._commit(unit)
    assert unit.outcome.exception(0) is wrong
    given_up = _begin(tail, 1)
    given_up.outcome.set_exception(wrong)
    tail._drop(given_up)
    tail.close()
    assert [number for what, number in cache.done if what == "release"] == [0, 1]
