"""Several `avpipe extract` on one cache, as processes: they share the work, wait for each other, and take over."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import extracting
import psutil
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache.verify import verify

SHORT = 1.0
PUBLISHED = "the unit is published"


@pytest.fixture(scope="module")
def few(tmp_path_factory, new_ave):
    """8 clips of 10 segments: 4 units; do not change them."""
    dataset = new_ave(tmp_path_factory.mktemp("few") / "ave")
    dataset.add(8)
    return dataset


@pytest.fixture(scope="module")
def expected(few, tmp_path_factory) -> str:
    """Content hash of an extraction by one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    extracting.finish(extracting.start(few.root, folder / "c", folder / "log"))
    return open_cache(folder / "c").content_hash()


def _assert_whole(cache, dataset, expected) -> None:
    found = open_cache(cache)
    assert found.content_hash() == expected
    assert sorted(found.clips()) == sorted(dataset.ids)
    assert verify(cache).ok, verify(cache).faults
    assert not any((cache / "ledger" / "tmp").iterdir())


def _is_stopped(process) -> bool:
    return process.poll() is None and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def test_two_extractions_share_the_units_and_do_nothing_twice(tiny_ave, tiny_hash, tmp_path):
    cache, log = tmp_path / "c", tmp_path / "log"
    both = [extracting.start(tiny_ave.root, cache, log) for _ in range(2)]
    for process in both:
        assert "40 clips cached" in extracting.finish(process)
    done = extracting.computed(log)
    assert {len(clips) for units in done.values() for clips in units.values()} == {2}
    assert extracting.pairs(done) == extracting.pairs(extracting.committed(cache))
    assert len(extracting.pairs(done)) == len(set(extracting.pairs(done))) == 40 * len(open_cache(cache).arrays)
    assert sorted(done) == sorted(process.pid for process in both), "one of them found nothing to do"
    assert list((cache / "ledger" / "leases").glob("0*")) == []
    _assert_whole(cache, tiny_ave, tiny_hash)


@pytest.mark.slow
def test_two_extractions_take_half_the_time_of_one(tiny_ave, tmp_path):
    """On media that are waited for, as processors are shared by whatever runs on this machine."""
    taken = []
    for writers in (1, 2):
        cache, begun = tmp_path / f"c{writers}", time.monotonic()
        start = partial(extracting.start, tiny_ave.root, cache, tmp_path / "log", "--decoders", 1, SLOW_MEDIA=1)
        both = [start() for _ in range(writers)]
        for process in both:
            extracting.finish(process)
        taken.append(time.monotonic() - begun)
    print(f"\none {taken[0]:.1f} s, two {taken[1]:.1f} s: {taken[1] / taken[0]:.2f}")
    assert taken[1] < 0.7 * taken[0]


@pytest.mark.parametrize(
    "point",
    [
        "its lease is written",
        "a clip is done",
        "the record is linked",
        "a file is renamed",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("the unit is sealed", "the record is put", PUBLISHED)),
    ],
)
def test_a_writer_that_sleeps_longer_than_its_lease_changes_nothing(few, expected, tmp_path, point):
    cache, log = tmp_path / "c", tmp_path / "log"
    sleeper = extracting.start(few.root, cache, log, LEASE_SECONDS=SHORT, STOP_BEFORE=point)
    try:
        extracting.until(lambda: _is_stopped(sleeper))
        assert extracting.records(cache) == (point in (PUBLISHED, "a file is renamed"))
        extracting.finish(extracting.start(few.root, cache, log, LEASE_SECONDS=SHORT))
        before = extracting.array_files(cache)
        assert len(before) == 4 * len(open_cache(cache).arrays) + 4
        assert open_cache(cache).content_hash() == expected
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    extracting.finish(sleeper)
    assert extracting.array_files(cache) == before
    _assert_whole(cache, few, expected)


def test_units_of_a_dead_writer_are_free_at_once(few, expected, tmp_path):
    cache, log = tmp_path / "c", tmp_path / "log"
    victim = extracting.start(few.root, cache, log, STOP_BEFORE="the record is put")
    extracting.until(lambda: _is_stopped(victim))
    victim.kill()
    victim.wait()
    begun = time.monotonic()
    extracting.finish(extracting.start(few.root, cache, log))
    assert time.monotonic() - begun < 30  # a lease lasts two minutes
    _assert_whole(cache, few, expected)


def test_ctrl_c_while_waiting_for_another_process(few, tmp_path):
    cache, log = tmp_path / "c", tmp_path / "log"
    holder = extracting.start(few.root, cache, log, STOP_BEFORE="the record is put")
    try:
        extracting.until(lambda: _is_stopped(holder))
        waiting = extracting.start(few.root, cache, log)
        heard: list[str] = []
        for line in waiting.stderr:
            heard.append(line)
            if "in the hands of" in line:
                break
        assert extracting.records(cache) >= 2, "it waits although there are units that nobody holds"
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=20)
        assert waiting.returncode == 130, errors
        assert "run the same command again" in errors
        assert sum("in the hands of" in line for line in [*heard, *errors.splitlines()]) == 1
    finally:
        holder.kill()
        holder.wait()


def test_one_that_waits_takes_over_from_one_that_dies(few, expected, tmp_path):
    cache, log = tmp_path / "c", tmp_path / "log"
    holder = extracting.start(few.root, cache, log, STOP_BEFORE="a clip is done")
    extracting.until(lambda: _is_stopped(holder))
    waiting = extracting.start(few.root, cache, log)
    for line in waiting.stderr:
        if "in the hands of" in line:
            break
    holder.kill()
    holder.wait()
    extracting.finish(waiting)
    _assert_whole(cache, few, expected)


def test_dask_workers_wait_for_another_process_and_take_over(few, expected, tmp_path):
    cache, log = tmp_path / "c", tmp_path / "log"
    holder = extracting.start(few.root, cache, log, STOP_BEFORE="the record is put")
    extracting.until(lambda: _is_stopped(holder))
    waiting = extracting.start(few.root, cache, log, "--workers", 2)
    for line in waiting.stderr:
        if "in the hands of" in line:
            break
    assert extracting.records(cache) >= 2
    os.kill(holder.pid, signal.SIGCONT)
    extracting.finish(waiting)
    extracting.finish(holder)
    _assert_whole(cache, few, expected)
