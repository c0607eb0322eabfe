"""What happens to a writer or a ledger while it works: temporaries vanish, files run out, documents appear."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cache_toy as toy
import pytest

from avpipe.pipeline.cache import durable, open_cache, verify
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.errors import CorruptionFound, EnvironmentLacking

CLIPS = [toy.clips(4)[i] for i in (0, 1, 3)]  # 6 rows: one unit


def _temporary(path: Path, part: str) -> Path:
    (found,) = (path / "ledger" / "tmp").glob(f"*/*{part}")
    return found


LOSSES = {
    "one is gone": lambda path: _temporary(path, "blocks.3").unlink(),
    "one is cut": lambda path: _temporary(path, "blocks.3").write_bytes(b""),
    "the folder is gone": lambda path: shutil.rmtree(_temporary(path, "blocks.3").parent),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_committed_whose_temporaries_are_lost(tmp_path, loss):
    path = tmp_path / "c"
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
        with writer.unit(work) as unit:
            toy.fill(unit)
            unit.seal()
            LOSSES[loss](path)
            with pytest.raises(EnvironmentLacking, match=r"(deleted|cleaner).*run the same command again"):
                unit.put_record({})
        assert not list((path / "ledger" / "records").iterdir())
        assert toy.left_temporaries(path) == []
    toy.extract(path, CLIPS)
    toy.assert_sound(path, CLIPS)


@pytest.mark.parametrize("label", ["blocks.3", "record.json"])
def test_a_loss_while_the_record_is_written_is_noticed(tmp_path, monkeypatch, label):
    path, original = tmp_path / "c", durable.write_file
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending

        def write_and_lose(target, data):
            original(target, data)
            if target.name.endswith("record.json"):
                _temporary(path, label).unlink()

        monkeypatch.setattr(durable, "write_file", write_and_lose)
        with pytest.raises(EnvironmentLacking, match=f"{label} is gone"):
            toy.commit(writer, work)
    assert not list((path / "ledger" / "records").iterdir())


def _open_files() -> set[int]:
    """Descriptors of this process; one more is that of the look."""
    return {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}


@contextmanager
def _two_more_files() -> Iterator[None]:
    """This process can open two files, and no third one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers, highest = [], max(_open_files())
    while not fillers or fillers[-1] < highest:
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


def test_a_unit_that_cannot_open_all_its_files_leaves_none(tmp_path):
    path = tmp_path / "c"
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
        before = _open_files()
        with _two_more_files(), pytest.raises(EnvironmentLacking, match=r"Too many open files.*ulimit -n"):
            writer.unit(work)
        assert _open_files() == before
        assert toy.left_temporaries(path) == []


def _hide_once(monkeypatch, name: str) -> list[str]:
    """The next listing that would show `name` does not, as if it had been made just after that place was passed."""
    original, hidden = Path.iterdir, []

    def iterdir(self):
        for path in original(self):
            if path.name == name and not hidden:
                hidden.append(name)
            else:
                yield path

    monkeypatch.setattr(Path, "iterdir", iterdir)
    return hidden


def test_a_record_that_a_listing_missed_is_not_called_lost(tmp_path, monkeypatch):
    path = tmp_path / "c"
    toy.extract(path, CLIPS, toy.VISUAL)
    toy.extract(path, CLIPS, toy.ARRAYS)
    hidden = _hide_once(monkeypatch, "00000000.0000.json")
    ledger = Ledger(Layout(path))
    assert hidden
    assert [record.sequence for record in ledger.records[0]] == [0, 1]
    toy.assert_sound(path, CLIPS)


def test_a_plan_that_a_listing_missed_is_not_called_lost(tmp_path, monkeypatch):
    path = tmp_path / "c"
    for count in (4, 6, 8):
        toy.extract(path, toy.clips(count))
    plans = sorted(p.name for p in (path / "ledger" / "plan").iterdir())
    assert len(plans) == 3
    expected = Ledger(Layout(path)).planned
    for name in plans[:2]:
        with monkeypatch.context() as patched:
            hidden = _hide_once(patched, name)
            assert Ledger(Layout(path)).planned == expected
            assert hidden
    toy.assert_sound(path, toy.clips(8))


@pytest.mark.parametrize("name", ["records/00000000.0000.json", "plan/00000000.json"])
def test_what_is_really_lost_is_still_called_lost(tmp_path, name):
    path = tmp_path / "c"
    toy.extract(path, toy.clips(4), toy.VISUAL)
    toy.extract(path, toy.clips(8), toy.ARRAYS)
    (path / "ledger" / name).unlink()
    with pytest.raises(CorruptionFound, match=f"{Path(name).name} is missing"):
        open_cache(path)
    assert not verify(path).ok
