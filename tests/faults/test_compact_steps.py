"""A compaction stopped between any two steps: the cache is as before, and the next compaction finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import cache_toy as toy
import pytest

from avpipe.pipeline.cache import open_cache
from avpipe.pipeline.cache.compact import check, compact, load, tidy
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import refuse

CLIPS = toy.clips(6)
ARRAYS = (toy.FRAMES, toy.BLOCK)
COUNT = 20


class Stop(BaseException):
    """Ends a compaction as an exception would."""


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A cache with two generations and records that they lack: the next compaction adds one and deletes one."""
    path = tmp_path_factory.mktemp("template") / "c"
    for count in (2, 4, 6):
        toy.extract(path, CLIPS[:count], ARRAYS)
        if count < 6:
            assert compact(Layout(path), Ledger(Layout(path)))
    return path


@pytest.fixture
def cache(tmp_path, template) -> Layout:
    shutil.copytree(template, tmp_path / "c")
    return Layout(tmp_path / "c")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    raise Stop


def _assert_as_before_then_finish(layout: Layout, expected: str) -> None:
    compaction = load(layout, refuse)
    assert compaction is not None
    assert compaction.generation in (2, 3)
    assert open_cache(layout.root).content_hash() == expected
    tidy(layout)
    assert check(layout, Ledger(layout, compacted=False)) == []
    compact(layout, Ledger(layout))
    compaction = load(layout, refuse)
    assert compaction is not None
    ledger = Ledger(layout, compacted=False)
    assert compaction.records == [record for unit in sorted(ledger.records) for record in ledger.records[unit]]
    assert check(layout, Ledger(layout, compacted=False)) == []
    assert len(list(layout.compact.iterdir())) == 6
    assert open_cache(layout.root).content_hash() == expected
    toy.assert_sound(layout.root, CLIPS, ARRAYS)
    assert toy.left_temporaries(layout.root) == []


@pytest.fixture(scope="module")
def expected(template) -> str:
    return open_cache(template).content_hash()


def test_the_number_of_steps_is_known(cache, at_step):
    log = at_step(-1, _kill)
    assert compact(cache, Ledger(cache))
    put = ["write_file", "link", "remove", "sync_folder"]
    begin, delete = ["make_folder", "make_folder", "make_folder", "sync_folder"], ["remove"] * 3 + ["sync_folder"]
    assert log == begin + put * 3 + delete
    assert len(log) == COUNT


@pytest.mark.parametrize("step", range(COUNT))
def test_stopped_by_an_exception(cache, at_step, expected, step, monkeypatch):
    at_step(step, _stop)
    with pytest.raises(Stop):
        compact(cache, Ledger(cache))
    monkeypatch.undo()
    _assert_as_before_then_finish(cache, expected)


@pytest.mark.parametrize("step", range(COUNT))
def test_stopped_by_sigkill(cache, at_step, expected, step):
    child = os.fork()
    if not child:
        try:
            at_step(step, _kill)
            compact(cache, Ledger(cache))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    _assert_as_before_then_finish(cache, expected)


@pytest.mark.parametrize("step", range(COUNT))
def test_overtaken_by_another_process(cache, at_step, expected, step):
    """Whoever comes second while the first one holds the lock returns; before that, one of both does the work."""
    done: list[bool] = []
    at_step(step, lambda: done.append(compact(cache, Ledger(cache))))
    done.append(compact(cache, Ledger(cache)))
    assert sorted(done) == [False, True]
    _assert_as_before_then_finish(cache, expected)
