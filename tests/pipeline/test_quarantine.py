"""Quarantine as the ledger tells of it: entries, kinds of reasons, and the table for other programs."""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cache_toy
import pyarrow.parquet as pq
import pytest
import zarr

from avpipe.pipeline import quarantine, quarantine_table
from avpipe.pipeline.cache import CacheWriter, durable, open_cache, verify
from avpipe.pipeline.cache.collect import collect
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.timeline import Timeline

CLIPS = cache_toy.clips(9)
BAD = CLIPS[2][0]


def _ledger(path: Path) -> Ledger:
    return Ledger(Layout(path))


def _rows(path: Path) -> list[dict]:
    return pq.read_table(path / "ledger" / "quarantine.parquet").to_pylist()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Nine clips, one of them rejected once."""
    path = tmp_path_factory.mktemp("made") / "c"
    cache_toy.extract(path, CLIPS, reject=[BAD])
    return path


@pytest.fixture
def cache(made, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "c"))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("/a b/c-d.mp4: no audio track", "*: no audio track"),
        ("clip '-x:y': no answer from the decoder within 60 s", "clip *: no answer from the decoder within * s"),
        ("""clip "it's": frames end at 3.25 s, 4.00 s were declared""", "clip *: frames end at * s, * s were declared"),
        ("/a/b.mp4: decord's time stamps do not advance", "*: decord's time stamps do not advance"),
        ("shape [10, 3, 224] of h264 in /a/b.npy, which is odd", "shape [*] of h264 in *, which is odd"),
        ("sha256 is 0a1b2c3d4e, not deadbeef01", "sha256 is *, not *"),
        ("[mov,mp4,3gp @ 0x55d0f3] error at MB 12 -3", "[mov,mp4,3gp @ *] error at MB *"),
        ("it is torn", "it is torn"),
    ],
)
def test_a_kind_is_a_reason_without_names_and_numbers(reason, kind):
    assert quarantine.kind_of(reason) == kind


def test_kinds_are_counted_the_most_common_first(cache):
    (entry,) = quarantine.entries_of(_ledger(cache), "toy")
    many = [replace(entry, clip=f"{i}", reason=f"/{i}.mp4: only {i} s") for i in range(3)]
    found = quarantine.kinds([entry, *many, replace(many[0], stage="audio")])
    assert [(group.stage, group.kind, len(group.entries)) for group in found] == [
        ("decode", "*: only * s", 3),
        ("audio", "*: only * s", 1),
        ("decode", "it is torn", 1),
    ]


def test_an_entry_says_when_and_how_often(cache):
    (first,) = quarantine.entries_of(_ledger(cache), "toy", {BAD: ["x.mp4"]})
    assert abs(first.first_failed - datetime.now(UTC)).total_seconds() < 60
    assert (first.clip, first.stage, first.reason, first.hint) == (BAD, "decode", "it is torn", "mend it")
    assert (first.attempts, first.files, first.versions) == (1, ("x.mp4",), {"decoder": "toy 1"})
    assert first.first_failed == first.last_failed
    cache_toy.extract(cache, CLIPS, reject=[BAD], retry=True)
    (second,) = quarantine.entries_of(_ledger(cache), "toy")
    assert (second.attempts, second.first_failed) == (2, first.first_failed)
    assert second.last_failed > first.last_failed
    assert second.unit > first.unit


def test_what_failed_before_it_was_cached_does_not_count(cache):
    cache_toy.extract(cache, CLIPS, retry=True)
    assert quarantine.entries_of(_ledger(cache), "toy") == []
    before = time.time()
    with CacheWriter.open(cache) as writer:  # a further array, for which it fails
        for work in writer.plan(CLIPS, [*cache_toy.ARRAYS, replace(cache_toy.BLOCK, name="visual/blocks.5")]).pending:
            cache_toy.commit(writer, work, [BAD])
    (entry,) = quarantine.entries_of(_ledger(cache), "toy")
    assert entry.attempts == 1
    assert entry.first_failed.timestamp() >= before


def test_the_table_says_what_the_ledger_says_and_goes_when_nothing_is_quarantined(cache):
    quarantine_table.keep(_ledger(cache))
    (row,) = _rows(cache)
    (entry,) = quarantine_table.listed(_ledger(cache))
    assert list(row) == list(quarantine_table.COLUMNS)
    assert row == {
        "clip": BAD, "dataset": "toy", "stage": "decode", "kind": "it is torn", "reason": "it is torn",
        "hint": "mend it", "attempts": 1, "first_failed": entry.first_failed, "last_failed": entry.last_failed,
        "unit": entry.unit, "files": [], "versions": [("decoder", "toy 1")],
    }  # fmt: skip
    cache_toy.extract(cache, CLIPS, retry=True)
    quarantine_table.keep(_ledger(cache))
    assert not (cache / "ledger" / "quarantine.parquet").exists()


def test_a_table_that_is_up_to_date_is_left_alone(cache):
    quarantine_table.keep(_ledger(cache))
    before = (cache / "ledger" / "quarantine.parquet").stat()
    quarantine_table.keep(_ledger(cache))
    assert (cache / "ledger" / "quarantine.parquet").stat() == before
    cache_toy.extract(cache, CLIPS, reject=[BAD], retry=True)
    quarantine_table.keep(_ledger(cache))
    assert [row["attempts"] for row in _rows(cache)] == [2]


def test_what_others_commit_until_the_lock_is_held_is_in_the_table(cache, monkeypatch):
    original = quarantine_table.exclusive

    @contextmanager
    def slow(path):
        cache_toy.extract(cache, CLIPS, reject=[BAD], retry=True)
        with original(path) as held:
            yield held

    monkeypatch.setattr(quarantine_table, "exclusive", slow)
    quarantine_table.keep(_ledger(cache))
    assert [row["attempts"] for row in _rows(cache)] == [2]


def test_files_are_remembered_by_the_table(cache, tmp_path):
    media = (tmp_path / "data" / "a b.mp4", Path("/elsewhere/a.wav"))
    dataset = Dataset(
        name="toy", root=tmp_path / "data", task="events", classes=("a",), timeline=Timeline(),
        clips=(Clip(BAD, 1, video=media[0], audio=media[1]),), samples=(),
    )  # fmt: skip
    quarantine_table.keep(_ledger(cache), dataset)
    assert _rows(cache)[0]["files"] == ["/elsewhere/a.wav", "a b.mp4"]
    cache_toy.extract(cache, CLIPS, reject=[BAD], retry=True)
    quarantine_table.keep(_ledger(cache))
    assert (_rows(cache)[0]["attempts"], _rows(cache)[0]["files"]) == (2, ["/elsewhere/a.wav", "a b.mp4"])


@pytest.mark.parametrize("content", [b"", b"PAR1 no table PAR1", b"\0" * 5000])
def test_a_damaged_table_is_written_anew(cache, content):
    (cache / "ledger" / "quarantine.parquet").write_bytes(content)
    quarantine_table.keep(_ledger(cache))
    assert [row["clip"] for row in _rows(cache)] == [BAD]


def test_a_table_of_other_columns_is_written_anew(cache):
    import pyarrow as pa

    pq.write_table(pa.table({"clip": [BAD], "files": [7]}), cache / "ledger" / "quarantine.parquet")
    quarantine_table.keep(_ledger(cache))
    assert _rows(cache)[0]["files"] == []


def test_the_table_is_no_part_of_what_a_cache_holds(cache):
    before = open_cache(cache).content_hash()
    quarantine_table.keep(_ledger(cache))
    assert verify(cache).ok
    assert collect(cache).deleted == ()
    assert len(_rows(cache)) == 1
    assert open_cache(cache).content_hash() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a file that is no part of it
        assert {"visual", "audio"} <= dict(zarr.open_group(cache, mode="r").members()).keys()
    (cache / "ledger" / "quarantine.parquet").unlink()
    assert verify(cache).ok


@pytest.mark.parametrize("refusal", [13, 30])
def test_a_cache_that_cannot_be_written_keeps_its_table_in_silence(cache, monkeypatch, capsys, refusal):
    def refuse(path, data, temporary):
        with durable.writing(path):
            raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(durable, "replace", refuse)
    quarantine_table.keep(_ledger(cache))
    assert [entry.clip for entry in quarantine_table.listed(_ledger(cache))] == [BAD]
    assert not (cache / "ledger" / "quarantine.parquet").exists()


def test_a_full_disk_is_said_and_leaves_nothing_behind(cache, monkeypatch):
    said: list[str] = []

    def refuse(source, target):
        with durable.writing(target):
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(quarantine_table.progress, "say", said.append)
    monkeypatch.setattr(durable, "rename", refuse)
    quarantine_table.keep(_ledger(cache))
    assert "quarantine.parquet could not be written" in said[0]
    assert not list((cache / "ledger" / "tmp").iterdir())


def test_ids_that_are_no_text(cache):
    (entry,) = quarantine_table.listed(_ledger(cache))
    odd = replace(entry, clip="name \udcff", files=("\udcff",))
    (row,) = pq.read_table(io.BytesIO(quarantine_table.as_parquet([odd]))).to_pylist()
    assert (row["clip"], row["files"]) == ("name \\udcff", ["\\udcff"])
    assert "name \\udcff" in quarantine_table.as_csv([odd])


def test_csv_has_the_same_columns(cache):
    (entry,) = quarantine_table.listed(_ledger(cache))
    entry = replace(entry, reason='a, "b"\nc', files=("x", "y"), versions={"decord": "0.6.0", "pyav": "1"})
    (row,) = csv.DictReader(io.StringIO(quarantine_table.as_csv([entry])))
    assert list(row) == list(quarantine_table.COLUMNS)
    assert (row["reason"], row["files"], row["versions"]) == (entry.reason, "x;y", "decord=0.6.0;pyav=1")


def test_choosing_by_stage_reason_and_id(cache):
    entries = quarantine.entries_of(_ledger(cache), "toy")
    assert quarantine.select(entries, stage="decode", reason="TORN") == entries
    assert quarantine.select(entries, stage="probe") == []
    assert quarantine.select(entries, reason="healed") == []
    with pytest.raises(UsageError, match="unknown stage 'decod': did you mean 'decode'"):
        quarantine.select(entries, stage="decod")
    assert quarantine.named(entries, [BAD, BAD], ()) == entries
    with pytest.raises(UsageError, match=f"did you mean '{BAD}'"):
        quarantine.named(entries, [f"{BAD}x"], ())
    with pytest.raises(UsageError, match="is not quarantined: the cache has it"):
        quarantine.named(entries, [CLIPS[0][0]], [CLIPS[0][0]])


def test_two_retries_at_once_are_one_attempt(cache):
    """Whoever plans while another retry is under way gets the same unit, and loses the race for it."""
    requested = [clip for clip in CLIPS if clip[0] == BAD]
    with CacheWriter.open(cache) as one, CacheWriter.open(cache) as other:
        (mine,) = one.plan(requested, cache_toy.ARRAYS, retry=True).pending
        (theirs,) = other.plan(requested, cache_toy.ARRAYS, retry=True).pending
        assert mine == theirs
        assert one.claim(mine.unit)
        assert not other.claim(theirs.unit)
        assert cache_toy.commit(one, mine, [BAD])
        assert other.left(theirs) is None
        cache_toy.commit(other, theirs, [BAD])  # as after a pause in which its lease ran out
    assert [entry.attempts for entry in quarantine_table.listed(_ledger(cache))] == [2]


def test_a_retry_that_was_killed_leaves_the_clip_quarantined_and_goes_on(cache):
    requested = [clip for clip in CLIPS if clip[0] == BAD]
    with CacheWriter.open(cache) as writer:
        (work,) = writer.plan(requested, cache_toy.ARRAYS, retry=True).pending
    assert [entry.attempts for entry in quarantine_table.listed(_ledger(cache))] == [1]
    with CacheWriter.open(cache) as writer:
        assert writer.plan(requested, cache_toy.ARRAYS).pending == (work,)  # it is begun, so anybody finishes it
        cache_toy.commit(writer, work)
    assert quarantine_table.listed(_ledger(cache)) == []
    assert BAD in open_cache(cache).clips()


def test_the_documentation_has_every_stage_and_column():
    text = (Path(__file__).parents[2] / "docs" / "quarantine.md").read_text()
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for cell in first for name in cell.split(",")}
    assert named == {*quarantine.STAGES, *quarantine_table.COLUMNS}
