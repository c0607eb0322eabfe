"""Caches from other hands: forged records, links to elsewhere, other users' locks, shards in each other's place."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import cache_toy as toy
import numpy as np
import pytest

from avpipe.pipeline.cache import CacheWriter, lock, open_cache, verify
from avpipe.pipeline.cache.documents import seal, unseal
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import LOCK_NAME, exclusive, try_lock
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.cache.shard import STAMP_BYTES, tail_bytes
from avpipe.pipeline.errors import AvpipeError, CorruptionFound, EnvironmentLacking

CLIPS = [toy.clips(4)[i] for i in (0, 1, 3)]  # 6 rows: one unit
ALIKE = [(f"alike {i}", 4, "") for i in range(4)]  # 4 rows each: two units with the same rows


@pytest.fixture
def path(tmp_path) -> Path:
    toy.extract(tmp_path / "c", CLIPS)
    return tmp_path / "c"


def _abandoned(path: Path, name: str = "host-1-dead") -> Path:
    """The folder of a writer that died, with a temporary in it."""
    folder = path / "ledger" / "tmp" / name
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).touch()
    (folder / "0001-x").write_bytes(b"forged")
    return folder


def _forge(path: Path, change) -> Path:
    record = path / "ledger" / "records" / "00000000.0000.json"
    content = unseal(record.read_bytes(), record)
    change(content)
    record.write_bytes(seal(content))
    return record


def _first_file(**members):
    return lambda content: content["files"][0].update(members)


FORGERIES = {
    "absolute path": lambda tmp: _first_file(path=str(tmp / "thesis.tex"), temporary="host-1-dead/0001-x"),
    "path with ..": lambda tmp: _first_file(path="../thesis.tex", temporary="host-1-dead/0001-x"),
    "another array's path": lambda tmp: _first_file(path=toy.BLOCK.shard_key(9), temporary="host-1-dead/0001-x"),
    "absolute temporary": lambda tmp: _first_file(temporary=str(tmp / "thesis.tex")),
    "temporary with ..": lambda tmp: _first_file(temporary="host-1-dead/../../../../thesis.tex"),
    "temporary ..": lambda tmp: _first_file(temporary="host-1-dead/.."),
    "deep temporary": lambda tmp: _first_file(temporary="host-1-dead/a/b"),
    "another writer's temporary": lambda tmp: _first_file(temporary="host-2-dead/0001-x"),
    "the writer's lock": lambda tmp: _first_file(temporary="host-1-dead/lock"),
    "no text": lambda tmp: _first_file(temporary=7),
    "missing member": lambda tmp: lambda content: content["files"][0].pop("stamp"),
    "an array twice": lambda tmp: lambda content: content["files"].append(content["files"][0]),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_record_moves_nothing(path, tmp_path, forgery):
    victim = tmp_path / "thesis.tex"
    victim.write_text("years of work")
    _abandoned(path)

    def change(content):
        content["writer"] = "host-1-dead"
        for number, file in enumerate(content["files"]):
            file["temporary"] = f"host-1-dead/{number}"
        FORGERIES[forgery](tmp_path)(content)

    record = _forge(path, change)
    for attempt in (open_cache, CacheWriter.open):
        with pytest.raises(CorruptionFound, match=record.name):
            attempt(path)
    assert str(record) in {fault.path for fault in verify(path).faults}
    assert victim.read_text() == "years of work"
    assert (path / "ledger" / "tmp" / "host-1-dead" / "0001-x").exists()
    assert not (path / toy.BLOCK.shard_key(9)).exists()


@pytest.mark.parametrize("writer", ["..", ".", "", "/etc", "a/b", "a\\b"])
def test_a_writer_that_is_no_plain_name_is_refused(path, writer):
    def change(content):
        content["writer"] = writer
        for file in content["files"]:
            file["temporary"] = f"{writer}/{file['temporary'].split('/')[1]}"

    record = _forge(path, change)
    with pytest.raises(CorruptionFound, match=record.name):
        open_cache(path)


def test_a_forged_second_record_does_not_replace_a_committed_shard(path):
    _abandoned(path)
    good = (path / toy.FRAMES.shard_key(0)).read_bytes()
    first = path / "ledger" / "records" / "00000000.0000.json"
    content = unseal(first.read_bytes(), first)
    content |= {"sequence": 1, "writer": "host-1-dead", "clips": []}
    content["files"] = [{**content["files"][0], "array": toy.FRAMES.name, "path": toy.FRAMES.shard_key(0)}]
    content["files"][0]["temporary"] = "host-1-dead/0001-x"
    first.with_name("00000000.0001.json").write_bytes(seal(content))
    with pytest.raises(CorruptionFound, match=r"00000000\.0001.*again"):
        open_cache(path)
    assert (path / toy.FRAMES.shard_key(0)).read_bytes() == good


def _precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious" / "inner"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        (place / "thesis.tex").write_text("years of work")
    return folder.parent


def _everything(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("open_it", [open_cache, CacheWriter.open])
def test_recovery_deletes_nothing_beyond_a_link(path, tmp_path, open_it):
    precious = _precious(tmp_path)
    before = _everything(precious)
    (path / "ledger" / "tmp" / "host-1-link").symlink_to(precious)
    folder = _abandoned(path)
    (folder / "linked").symlink_to(precious)
    (folder / "linked.tex").symlink_to(precious / "thesis.tex")
    (folder / "folder").mkdir()
    (folder / "folder" / "file").touch()
    open_it(path)
    assert _everything(precious) == before
    assert not (folder / "0001-x").exists()  # what it is there for, it does
    assert (folder / "folder" / "file").exists()
    assert (folder / "linked").is_symlink()
    assert (folder / "linked.tex").is_symlink()


def test_recovery_does_not_enter_linked_temporaries(path, tmp_path):
    precious = _precious(tmp_path)
    before = _everything(precious)
    shutil.rmtree(path / "ledger" / "tmp")
    (path / "ledger" / "tmp").symlink_to(precious)
    open_cache(path)
    assert _everything(precious) == before


def test_a_lock_is_not_taken_through_a_link(path, tmp_path):
    folder = _abandoned(path)
    (folder / LOCK_NAME).unlink()
    (folder / LOCK_NAME).symlink_to(tmp_path / "made")
    open_cache(path)
    assert not (tmp_path / "made").exists()
    assert (folder / "0001-x").exists()
    (path / "ledger" / "planner.lock").unlink()
    (path / "ledger" / "planner.lock").symlink_to(tmp_path / "made")
    with pytest.raises(EnvironmentLacking, match="symbolic link"), exclusive(path / "ledger" / "planner.lock"):
        pass
    assert not (tmp_path / "made").exists()


def _refused(monkeypatch, module, name: str, wanted) -> list[str]:
    """Makes an operation on chosen paths fail as for another user's files, also where the tests run as root."""
    original, refused = getattr(module, name), []

    def operation(target, *args, **kwargs):
        if wanted(str(target)):
            refused.append(str(target))
            raise PermissionError(13, "Permission denied")
        return original(target, *args, **kwargs)

    monkeypatch.setattr(module, name, operation)
    return refused


@pytest.mark.parametrize("what", ["lock", "listing", "deleting", "the folder of all writers"])
def test_what_belongs_to_another_user_is_left_to_them(path, monkeypatch, what):
    foreign, mine = _abandoned(path, "a-1-other"), _abandoned(path, "b-1-mine")
    if what == "lock":
        refused = _refused(monkeypatch, lock.os, "open", lambda p: p == str(foreign / LOCK_NAME))
    elif what == "listing":
        refused = _refused(monkeypatch, Path, "iterdir", lambda p: p == str(foreign))
    elif what == "deleting":
        refused = _refused(monkeypatch, Path, "unlink", lambda p: p == str(foreign / "0001-x"))
    else:
        refused = _refused(monkeypatch, Path, "iterdir", lambda p: p == str(foreign.parent))
    cache = open_cache(path)
    assert refused
    assert cache.read(cache.rows([CLIPS[0][0]]), [toy.BLOCK.name])
    assert (foreign / "0001-x").exists()
    assert mine.exists() == (what == "the folder of all writers")


def test_publishing_for_another_user_is_left_to_them(tmp_path, monkeypatch):
    path = tmp_path / "c"
    with toy.begin(path) as writer:
        (work,) = writer.plan(CLIPS, toy.ARRAYS).pending
        with writer.unit(work) as unit:
            toy.fill(unit)
            unit.seal()
            assert unit.put_record({})
        refused = _refused(monkeypatch, Path, "rename", lambda p: "/ledger/tmp/" in p)
        toy.assert_sound(path, CLIPS)
        assert refused


def test_no_locks_at_all_stop_a_writer_and_not_a_reader(path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(37, "No locks available")

    folder = _abandoned(path)
    monkeypatch.setattr(lock.fcntl, "flock", flock)
    open_cache(path)
    assert (folder / "0001-x").exists()
    with pytest.raises(EnvironmentLacking, match="no file locks"):
        CacheWriter.open(path)


def test_recovery_still_passes_on_other_failures(path, monkeypatch):
    _abandoned(path)

    def unlink(self, missing_ok=False):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(EnvironmentLacking, match="disk reports an error"):
        recover(Ledger(Layout(path)))


def _extract_alike(path: Path, silent_from: int) -> None:
    """Two units with equal indexes; rows of segments before `silent_from` are zero in both."""
    with toy.begin(path) as writer:
        for work in writer.plan(ALIKE, toy.ARRAYS).pending:
            with writer.unit(work) as unit:
                for clip in work.clips:
                    for segment in range(clip.segments):
                        for array in toy.ARRAYS:
                            row = toy.value(clip.id, array, segment)
                            unit.write(
                                array.name, clip.start + segment, row if segment >= silent_from else np.zeros_like(row)
                            )
                    unit.clip_done(clip, toy.masks(clip), {})
                assert unit.commit()


@pytest.mark.parametrize("silent_from", [0, 1, 4], ids=["different", "first row equal", "every row equal"])
@pytest.mark.parametrize("array", toy.ARRAYS, ids=lambda a: a.tap)
def test_shards_in_each_others_place_are_noticed(tmp_path, array, silent_from):
    path = tmp_path / "c"
    _extract_alike(path, silent_from)
    first, second = (path / array.shard_key(unit) for unit in (0, 1))
    a, b = first.read_bytes(), second.read_bytes()
    tail = tail_bytes(toy.UNIT_ROWS)
    assert len(a) == len(b)
    assert a[STAMP_BYTES - tail :] == b[STAMP_BYTES - tail :]
    first.write_bytes(b)
    second.write_bytes(a)
    for clip, unit in ((ALIKE[0][0], 0), (ALIKE[3][0], 1)):
        for access in ("mmap", "pread"):
            for check in ("first", "always", "never"):
                cache = open_cache(path)
                with pytest.raises(CorruptionFound, match="stamp") as error:
                    cache.read(cache.rows([clip]), [array.name], check=check, access=access)
                assert str(path / array.shard_key(unit)) in str(error.value)
    assert {fault.path for fault in verify(path).faults} == {str(first), str(second)}


LINKED = [
    "readme",
    "visual/foreign",
    "audio",
    toy.BLOCK.name,
    toy.BLOCK.shard_key(0),
    f"{toy.BLOCK.name}/zarr.json",
    "ledger",
    "ledger/cache.json",
    "ledger/plan/00000000.json",
    "ledger/records",
    "ledger/tmp",
]


@pytest.mark.parametrize("place", LINKED)
def test_verify_reports_links_and_does_not_follow_them(path, tmp_path, monkeypatch, place):
    link, elsewhere = path / place, tmp_path / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.mkdir()
        (elsewhere / "file").touch()
    link.symlink_to(elsewhere)
    opened: list[str] = []
    for module, name in ((os, "open"), (io, "open")):
        monkeypatch.setattr(module, name, _noting(getattr(module, name), opened))
    report = verify(path)
    faults = {fault.path: fault.message for fault in report.faults}
    assert "symbolic link" in faults[str(link)]
    assert not [name for name in opened if name.startswith(str(elsewhere))]
    assert len(faults) == 1
    assert place.startswith("ledger") or any(
        name.startswith(str(path)) for name in opened
    )  # it does see what is opened


def _noting(original, opened: list[str]):
    def operation(target, *args, **kwargs):
        opened.append(os.path.realpath(target))
        return original(target, *args, **kwargs)

    return operation


def test_a_link_to_a_cache_is_a_cache(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    assert verify(tmp_path / "link").ok
    toy.assert_sound(tmp_path / "link", CLIPS)


def test_locks_are_taken_or_refused_loudly(tmp_path, monkeypatch):
    refused = _refused(monkeypatch, lock.os, "open", lambda p: p.endswith("mine"))
    with pytest.raises(AvpipeError, match="permission"):
        try_lock(tmp_path / "mine")
    assert refused
