"""Garbage collection: what nothing names goes, what is committed stays, whatever happens at the same time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cache_toy as toy
import pytest

from avpipe.pipeline.cache import ledger_files, open_cache, verify
from avpipe.pipeline.cache.collect import collect
from avpipe.pipeline.errors import CorruptionFound

CLIPS = toy.clips(4)


@pytest.fixture
def path(tmp_path) -> Path:
    toy.extract(tmp_path / "c", CLIPS)
    return tmp_path / "c"


def _die_with_temporaries(path: Path) -> None:
    child = os.fork()
    if not child:
        writer = toy.begin(path)
        work = writer.plan(toy.clips(8), toy.ARRAYS).pending[0]
        toy.fill(writer.unit(work))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_left_overs_and_strays_go_and_nothing_else(path):
    expected = open_cache(path).content_hash()
    stray = path / toy.BLOCK.shard_key(99)
    stray.write_bytes(b"12345")
    _die_with_temporaries(path)
    left = toy.left_temporaries(path)
    assert left
    assert not verify(path).ok
    listed = collect(path, dry_run=True)
    assert stray.relative_to(path).as_posix() in listed.deleted
    assert {Path(name).name for name in listed.deleted} == {stray.name, *left}
    assert listed.bytes >= 5
    assert stray.exists()
    assert toy.left_temporaries(path) == left
    assert collect(path) == listed
    assert not stray.exists()
    assert toy.left_temporaries(path) == []
    assert collect(path).deleted == ()
    assert open_cache(path).content_hash() == expected
    toy.assert_sound(path, CLIPS)


def test_a_living_writer_keeps_its_temporaries(path):
    with toy.begin(path) as writer:
        work = writer.plan(toy.clips(8), toy.ARRAYS).pending[0]
        with writer.unit(work) as unit:
            toy.fill(unit)
            assert collect(path).deleted == ()
            assert unit.commit()
    assert verify(path).ok


def test_a_stray_in_the_place_of_a_planned_unit_is_left_to_the_writer(path):
    wanted = toy.clips(6)
    with toy.begin(path) as writer:
        works = writer.plan(wanted, toy.ARRAYS).pending
        stray = path / toy.BLOCK.shard_key(works[0].unit)
        stray.write_bytes(b"12345")
        assert not verify(path).ok
        assert collect(path).deleted == ()
        for work in works:
            assert toy.commit(writer, work)
    toy.assert_sound(path, wanted)


def test_a_record_that_cannot_be_read_for_a_moment_costs_nothing(path, monkeypatch):
    reads, original = [], ledger_files.read_sealed

    def read_sealed(document):
        if document.parent.name == "records" and document.name.startswith("00000000"):
            reads.append(document)
            if len(reads) == 3:  # the reading after the one that found the ledger sound
                raise OSError(116, "Stale file handle")
        return original(document)

    monkeypatch.setattr(ledger_files, "read_sealed", read_sealed)
    with pytest.raises(CorruptionFound, match="Stale"):
        collect(path)
    assert len(reads) == 3
    monkeypatch.undo()
    toy.assert_sound(path, CLIPS)


def test_a_damaged_ledger_stops_it(path):
    (path / "ledger" / "records" / "00000000.0000.json").unlink()
    with pytest.raises(CorruptionFound, match="avpipe cache repair"):
        collect(path)
    assert (path / toy.BLOCK.shard_key(0)).exists()


def test_rows_that_were_superseded_are_counted(path):
    assert collect(path).superseded_bytes == 0
    other = path.parent / "d"
    toy.extract(other, CLIPS, toy.VISUAL)
    toy.extract(other, CLIPS, toy.ARRAYS, reject={CLIPS[1][0]})
    toy.extract(other, CLIPS, toy.ARRAYS, retry=True)
    bytes_of_a_row = sum(array.row_bytes for array in toy.VISUAL)
    assert collect(other).superseded_bytes == CLIPS[1][1] * bytes_of_a_row
