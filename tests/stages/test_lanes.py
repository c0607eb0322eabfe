"""Lanes: jobs in order, queues that are bounded in jobs and in bytes, one error that stops all."""

from __future__ import annotations

import threading
import time

import pytest

from avpipe.stages.lanes import Lane, Trouble

PATIENCE = 20


@pytest.fixture
def trouble():
    made = Trouble()
    yield made
    made.stop(RuntimeError("the end of the test"))


def _put_in_a_thread(lane: Lane, nbytes: int = 0) -> threading.Event:
    """Hands over a job that does nothing; the event says that there was room for it."""
    there = threading.Event()

    def put() -> None:
        lane.put(lambda: None, nbytes)
        there.set()

    threading.Thread(target=put, daemon=True).start()
    return there


def test_jobs_are_done_in_order_in_another_thread(trouble):
    lane, done, last = Lane("one", trouble), [], threading.Event()
    for number in range(20):
        lane.put(lambda number=number: done.append((number, threading.current_thread())))
    lane.put(last.set)
    assert last.wait(PATIENCE)
    assert done == [(number, lane) for number in range(20)]


@pytest.mark.parametrize(("sizes", "fits"), [((1, 1), False), ((60,), False), ((50,), True), ((), True)])
def test_a_queue_is_bounded_in_jobs_and_in_bytes(trouble, sizes, fits):
    """Three jobs or 100 bytes, the running one included."""
    lane, go = Lane("one", trouble, most_jobs=3, most_bytes=100), threading.Event()
    lane.put(go.wait, 10 if len(sizes) < 2 else 0)
    for size in sizes:
        lane.put(lambda: None, size)
    there = _put_in_a_thread(lane, 40)
    assert there.wait(PATIENCE if fits else 0.2) == fits
    go.set()
    assert there.wait(PATIENCE)


def test_a_job_that_is_larger_than_the_queue_runs_alone(trouble):
    lane, go = Lane("one", trouble, most_bytes=100), threading.Event()
    lane.put(go.wait, 1000)
    there = _put_in_a_thread(lane)
    assert not there.wait(0.2)
    go.set()
    assert there.wait(PATIENCE)


def test_what_a_job_holds_is_let_go_of_before_the_next_one(trouble):
    """Else the memory of a run would be that of one clip more."""
    import weakref

    class Held:
        pass

    lane, gone = Lane("one", trouble), threading.Event()
    held = Held()
    weakref.finalize(held, gone.set)
    lane.put(lambda held=held: None)
    del held
    assert gone.wait(PATIENCE)


def test_the_first_error_stops_all_lanes_and_is_raised_where_something_is_handed_over():
    told: list[BaseException] = []
    trouble = Trouble(told.append)
    first, second = Lane("first", trouble), Lane("second", trouble)
    wrong, done = ValueError("no space"), []

    def fail() -> None:
        raise wrong

    second.put(fail)
    second.join(PATIENCE)
    first.join(PATIENCE)
    assert not first.is_alive()
    assert not second.is_alive()
    for lane in (first, second):
        with pytest.raises(ValueError, match="no space"):
            lane.put(lambda: done.append(1))
    assert (told, trouble.error, done) == ([wrong], wrong, [])


def test_one_that_waits_for_room_hears_of_an_error(trouble):
    lane, go, found = Lane("one", trouble, most_jobs=1), threading.Event(), []
    lane.put(go.wait)

    def put() -> None:
        try:
            lane.put(lambda: found.append("done"))
        except RuntimeError as error:
            found.append(str(error))

    waiting = threading.Thread(target=put, daemon=True)
    waiting.start()
    time.sleep(0.05)
    trouble.stop(RuntimeError("stopped"))
    waiting.join(PATIENCE)
    go.set()
    lane.join(PATIENCE)
    assert found == ["stopped"]
