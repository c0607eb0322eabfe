"""What happens to a writer or a ledger while it works: temporaries vanish, files run out, documents appear."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cache_toy as toy
import pytest

from avpipe.pipeline.cache import CacheWriter, durable, ledger_files, open_cache, verify
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.errors import CorruptionFound, EnvironmentLacking, UsageError

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


def test_a_link_whose_reply_was_lost_is_a_success(tmp_path, monkeypatch):
    """A network file system repeats the call, and then finds the name taken: by this very file."""
    path, original, lost = tmp_path / "c", Path.hardlink_to, []

    def link_twice(self, target):
        original(self, target)
        if self.parent.name == "records":
            lost.append(self)
            original(self, target)

    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
        monkeypatch.setattr(Path, "hardlink_to", link_twice)
        assert toy.commit(writer, work)
        monkeypatch.undo()
    assert len(lost) == 1
    toy.assert_sound(path, CLIPS)


def test_a_writer_is_of_no_use_to_a_forked_child(tmp_path):
    """It would give the names of its parent's temporaries out a second time."""
    path = tmp_path / "c"
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
        child = os.fork()
        if not child:
            code = 1
            try:
                toy.commit(writer, work)
            except UsageError as error:
                code = 7 if "open a CacheWriter of its own in the child" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert toy.left_temporaries(path) == []
        assert toy.commit(writer, work)
    toy.assert_sound(path, CLIPS)


def test_no_temporary_is_written_over_another(tmp_path):
    durable.write_file(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        durable.write_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_full_disk_keeps_nobody_from_reading(tmp_path, monkeypatch):
    path = tmp_path / "c"
    toy.extract(path, CLIPS)
    twin = path / "ledger" / "twins" / "records" / "00000000.0000.json"
    twin.unlink()  # as after a kill right after a commit

    def full(target, data):
        raise EnvironmentLacking("no space")

    monkeypatch.setattr(durable, "write_file", full)
    assert len(open_cache(path).clips()) == len(CLIPS)
    with pytest.raises(EnvironmentLacking, match="no space"):
        CacheWriter.open(path)
    assert not twin.exists()
    monkeypatch.undo()
    toy.assert_sound(path, CLIPS)


def _added_documents(path: Path) -> tuple[Ledger, list[Path]]:
    """A ledger, and the documents that were added since it was read: two plans, an array, records."""
    toy.extract(path, toy.clips(4), toy.VISUAL)
    ledger = Ledger(Layout(path))
    before = {*(path / "ledger").glob("*/*.json")}
    toy.extract(path, toy.clips(6), toy.VISUAL)
    toy.extract(path, toy.clips(8), toy.ARRAYS)
    return ledger, sorted({*(path / "ledger").glob("*/*.json")} - before)


@pytest.mark.parametrize("fault", ["cut", "gone"])
def test_what_a_refresh_stumbled_over_is_read_by_the_next(tmp_path, fault):
    """A reader that goes on after an error must not go on without a document."""
    path = tmp_path / "c"
    _, added = _added_documents(path)
    assert len(added) > 6
    for number, document in enumerate(added):
        ledger, again = _added_documents(tmp_path / str(number))
        document = again[added.index(document)]
        if fault == "gone" and document.parent.name == "records" and not document.name.endswith("0.0000.json"):
            continue  # nothing misses it
        whole = document.read_bytes()
        document.unlink()
        if fault == "cut":
            document.write_bytes(whole[:10])
        for _ in range(2):
            with pytest.raises(CorruptionFound):
                ledger.refresh()
        document.write_bytes(whole)
        ledger.refresh()
        sound = Ledger(Layout(tmp_path / str(number)))
        assert (ledger.records, ledger.planned, ledger.arrays) == (sound.records, sound.planned, sound.arrays)


def test_a_damaged_record_is_reported_once_to_who_goes_on(tmp_path):
    path, reported = tmp_path / "c", []
    toy.extract(path, CLIPS)
    (path / "ledger" / "records" / "00000000.0000.json").write_bytes(b"")
    ledger = Ledger(Layout(path), lambda file, message: reported.append(file.name))
    ledger.refresh()
    assert ledger.refresh_unit(0) == []  # and does not ask for ever
    assert reported == ["00000000.0000.json"]


def test_an_error_of_the_moment_is_none_of_the_next(tmp_path, monkeypatch):
    ledger, added = _added_documents(tmp_path / "c")
    original, failed = ledger_files.read_sealed, []

    def fail_once(path):
        if path not in failed:
            failed.append(path)
            raise OSError(116, "Stale file handle")
        return original(path)

    monkeypatch.setattr(ledger_files, "read_sealed", fail_once)
    for _ in added:
        with pytest.raises(CorruptionFound, match="Stale"):
            ledger.refresh()
    ledger.refresh()
    monkeypatch.undo()
    assert sorted(failed) == added
    assert ledger.records == Ledger(Layout(tmp_path / "c")).records


def test_recovery_does_not_rely_on_a_listing(tmp_path, monkeypatch):
    """A network file system may not list yet what another host has linked just before it died."""
    path, original = tmp_path / "c", Path.iterdir
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
    child = os.fork()
    if not child:
        unit = CacheWriter.open(path).unit(work)
        toy.fill(unit)
        unit.seal()
        unit.put_record({})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert list((path / "ledger" / "records").iterdir())
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(()) if self.name == "records" else original(self))
    recover(Ledger(Layout(path)))
    monkeypatch.undo()
    assert toy.left_temporaries(path) == []
    toy.assert_sound(path, CLIPS)
