"""Several extractions in one process, as on the workers of a shared scheduler: none closes another's open unit."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import extracting
import pytest

from avpipe.pipeline.cache import CacheWriter, UnitWriter, open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.datasets.origin import origin_of
from avpipe.stages import executors
from avpipe.stages import extract as extract_module
from avpipe.stages.executors import begin_unit, close_runner, release_runner, run_unit, runner_of, weights_of

PATIENCE = 60


@pytest.fixture
def tasks(own_ave, tmp_path):
    """The arguments of `run_unit` for the units of two extractions of two clips each, into caches of their own."""
    dataset, found = load_dataset("ave", own_ave.root), {}
    dataset = replace(dataset, clips=dataset.clips[:2])
    for name in ("a", "b"):
        job = extracting.stub_job(dataset, tmp_path / name, "audio", layers="blocks.0")
        expected = weights_of(job)
        CacheWriter.create(job.cache, dataset=origin_of(dataset), unit_rows=10).close()
        planned = extract_module._plan(dataset, job, expected, False)
        clips = {clip.id: clip.absolute() for clip in dataset.clips}
        found[name] = [(job, work, clips, expected) for work in planned.pending]
    yield found
    close_runner()


@pytest.fixture
def sealing(monkeypatch):
    """Set when a unit is being committed, which takes a while."""
    begun = threading.Event()

    def seal(unit, original=UnitWriter.seal):
        begun.set()
        time.sleep(0.3)
        original(unit)

    monkeypatch.setattr(UnitWriter, "seal", seal)
    return begun


def _run(tasks, outcomes) -> threading.Thread:
    def all_of_them() -> None:
        for task in tasks:
            try:
                outcomes.append(run_unit(*task).won)
            except BaseException as error:  # whatever it is, it fails the test
                outcomes.append(error)

    thread = threading.Thread(target=all_of_them)
    thread.start()
    return thread


def test_two_extractions_on_the_threads_of_one_worker_do_not_disturb_each_other(tasks, sealing):
    outcomes: list[object] = []
    threads = [_run(tasks[name], outcomes) for name in ("a", "b")]
    for thread in threads:
        thread.join(PATIENCE)
    assert outcomes == 4 * [True]
    assert all(len(open_cache(tasks[name][0][0].cache).clips()) == 2 for name in ("a", "b"))


def test_the_end_of_another_extraction_leaves_the_open_unit_alone_and_does_not_wait(tasks, sealing):
    """The clean-up comes from another client, in the event loop of the worker: a loop that waits looks like a death."""
    outcomes: list[object] = []
    thread = _run(tasks["a"][:1], outcomes)
    assert sealing.wait(PATIENCE)
    release_runner()
    assert thread.is_alive(), "it waited for the unit"
    thread.join(PATIENCE)
    assert outcomes == [True]
    assert executors._runner is None, "it is closed once no unit is open"


def test_what_is_not_in_use_is_closed_at_once(tasks):
    runner_of(tasks["a"][0][0])
    release_runner()
    assert executors._runner is None


def test_a_unit_that_is_being_committed_is_waited_for_where_another_job_begins(tasks, sealing):
    first = begin_unit(*tasks["a"][0])
    assert begin_unit(*tasks["b"][0]).result(PATIENCE).won
    assert first.result(0).won
