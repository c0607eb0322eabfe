"""`avpipe quarantine`: what it lists, what a retry comes to, and how little other commands say of many bad clips."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cache_toy
import pyarrow.parquet as pq
import pytest

from avpipe.cli.rejections import LISTED, rejection_lines
from avpipe.pipeline import open_cache
from avpipe.pipeline.cache.records import Quarantined

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
CLIPS = cache_toy.clips(9)
BAD = [CLIPS[1][0], CLIPS[4][0]]


@pytest.fixture
def cache(tmp_path) -> Path:
    """Nine clips, two of them rejected."""
    cache_toy.extract(tmp_path / "c", CLIPS, reject=BAD)
    return tmp_path / "c"


def _rejected(number: int, stage: str, reason: str) -> Quarantined:
    return Quarantined(f"clip{number:04d}", stage, reason, "mend it", "", 1, 0)


def test_few_clips_get_a_line_each_and_many_a_line_for_each_kind(tmp_path):
    assert rejection_lines([], tmp_path) == []
    few = rejection_lines([_rejected(i, "probe", f"/{i}.mp4: empty") for i in range(LISTED)], tmp_path)
    assert few[:2] == [
        "  quarantined clip0000: /0.mp4: empty (mend it)",
        "  quarantined clip0001: /1.mp4: empty (mend it)",
    ]
    assert len(few) == LISTED + 1
    some = [_rejected(i, "probe" if i % 3 else "audio", f"/{i}.mp4: {i} s") for i in range(300)]
    lines = rejection_lines(some, tmp_path / "a b")
    assert lines == [
        "  quarantined 200 at probe, such as clip0001: /1.mp4: 1 s (mend it)",
        "  quarantined 100 at audio, such as clip0000: /0.mp4: 0 s (mend it)",
        f"  all of them: avpipe quarantine ls --cache '{tmp_path}/a b'; once they are mended: "
        f"avpipe quarantine retry --cache '{tmp_path}/a b'",
    ]
    many = [_rejected(i, "probe", "x" * (i // 10 + 1)) for i in range(300)]
    lines = rejection_lines(many, tmp_path)
    assert len(lines) == LISTED + 1
    assert lines[-2] == f"  quarantined {300 - 10 * (LISTED - 1)} for {30 - (LISTED - 1)} other reasons"


def test_ls_counts_kinds_and_lists_clips(cache, avpipe_here):
    lines = avpipe_here("quarantine", "ls", "--cache", cache).stdout.splitlines()
    assert lines[0] == f"{cache}: 2 clips quarantined"
    assert "2 clips at decode: it is torn (mend it)" in lines
    assert sum(line.startswith(f"  {clip}  (") and line.endswith("it is torn") for line in lines for clip in BAD) == 2
    assert lines[-1] == f"once they are mended: avpipe quarantine retry --cache {cache}"
    assert len(pq.read_table(cache / "ledger" / "quarantine.parquet")) == 2  # it was not there


def test_ls_as_json_and_as_files(cache, avpipe_here, tmp_path):
    files = ("--csv", tmp_path / "q.csv", "--parquet", tmp_path / "q.parquet")
    found = json.loads(avpipe_here("quarantine", "ls", "--cache", cache, "--json", "--reason", "Torn", *files).stdout)
    assert (found["quarantined"], [entry["clip"] for entry in found["clips"]]) == (2, BAD)
    assert found["kinds"] == [
        {"stage": "decode", "kind": "it is torn", "clips": 2, "example": "it is torn", "hint": "mend it"}
    ]
    assert set(found["clips"][0]) >= {"dataset", "attempts", "first_failed", "last_failed", "unit", "files", "versions"}
    assert [row["clip"] for row in csv.DictReader((tmp_path / "q.csv").open())] == BAD
    assert pq.read_table(tmp_path / "q.parquet")["clip"].to_pylist() == BAD
    none = avpipe_here("quarantine", "ls", "--cache", cache, "--stage", "probe", "--json")
    assert json.loads(none.stdout)["clips"] == []


def test_a_choice_that_matches_none_says_of_how_many(cache, avpipe_here):
    for choice in (("--reason", "zzz"), ("--stage", "probe")):
        text = avpipe_here("quarantine", "ls", "--cache", cache, *choice).stdout
        assert text == f"{cache}: none of 2 clips in quarantine matches\n"
        text = avpipe_here("quarantine", "retry", "--cache", cache, *choice).stdout
        assert text == f"{cache}: nothing to try again, none of 2 clips in quarantine matches\n"


def test_names_that_are_no_text_are_printed_and_kept(tmp_path, avpipe_here):
    with cache_toy.begin(tmp_path / "c") as writer:
        (work,) = writer.plan([("name \udcff", 2, "")], cache_toy.ARRAYS).pending
        with writer.unit(work) as unit:
            unit.reject(work.clips[0], stage="probe", reason="/\udcff.mp4: empty")
            unit.commit()
    assert "  name \\udcff  (" in avpipe_here("quarantine", "ls", "--cache", "c").stdout
    (entry,) = json.loads(avpipe_here("quarantine", "ls", "--cache", "c", "--json").stdout)["clips"]
    assert (entry["clip"], entry["reason"]) == ("name \udcff", "/\udcff.mp4: empty")
    assert len(pq.read_table(tmp_path / "c" / "ledger" / "quarantine.parquet")) == 1


def test_other_commands_name_it(cache, avpipe_here):
    for command in (("status",), ("cache", "show")):
        assert f"avpipe quarantine ls --cache {cache}" in avpipe_here(*command, "--cache", cache).stdout
    cache_toy.extract(cache, CLIPS, retry=True)
    for command in (("status",), ("cache", "show")):
        assert "avpipe quarantine" not in avpipe_here(*command, "--cache", cache).stdout
    assert "nothing is quarantined" in avpipe_here("quarantine", "ls", "--cache", cache).stdout
    assert "nothing to try again" in avpipe_here("quarantine", "retry", "--cache", cache).stdout


def test_wrong_requests(cache, avpipe_here, tmp_path):
    for arguments, message in (
        (("retry", "--cache", cache, "--", f"{BAD[0]}x"), f"did you mean '{BAD[0]}'?"),
        (("retry", "--cache", cache, "--", CLIPS[0][0]), "is not quarantined: the cache has it"),
        (("retry", "--cache", cache, "--stage", "decoding"), "did you mean 'decode'?"),
        (("ls", "--cache", cache, "--stage", "decoding"), "did you mean 'decode'?"),
        (("ls", "--cache", tmp_path), "is no cache"),
        (("retry", "--cache", cache), "unknown dataset 'toy'"),
    ):
        assert message in avpipe_here("quarantine", *arguments, check=2).stderr


def test_a_cache_that_cannot_be_written_is_listed(cache, avpipe_here, monkeypatch):
    """As for a user who may only read it (root may do anything, so the refusal is played)."""
    monkeypatch.setattr(os, "open", _read_only(cache, os.open))
    done = avpipe_here("quarantine", "ls", "--cache", cache)
    assert "2 clips quarantined" in done.stdout
    assert not (cache / "ledger" / "quarantine.parquet").exists()
    assert "could not be written" not in done.stderr


def _read_only(root: Path, original):
    def opened(path, flags, *args, **options):
        if str(path).startswith(str(root)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, os.strerror(13), str(path))
        return original(path, flags, *args, **options)

    return opened


def test_from_extract_to_retry(own_ave, avpipe_here, tmp_path):
    """Two broken files; one is mended, then the other, with no option but the cache."""
    first, second = own_ave.ids[3], own_ave.ids[4]  # the first id begins with "-"
    sound = {clip: own_ave.video(clip).read_bytes() for clip in (first, second)}
    for clip in sound:
        own_ave.video(clip).write_bytes(b"")
    done = avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "blocks.1", check=3)
    assert "avpipe quarantine ls --cache cache/ave" in done.stdout
    rows = pq.read_table(tmp_path / "cache" / "ave" / "ledger" / "quarantine.parquet").to_pylist()
    assert [row["clip"] for row in rows] == [first, second]
    assert rows[0]["files"] == [f"AVE_Dataset/AVE/{first}.mp4"]
    assert {"decord", "pyav", "soundfile"} <= dict(rows[0]["versions"]).keys()
    own_ave.video(first).write_bytes(sound[first])
    failed = avpipe_here("quarantine", "retry", "--json", "--cache", "cache/ave", "--", second, first, check=3)
    found = json.loads(failed.stdout)
    assert [(clip["clip"], clip["outcome"], clip["attempts"]) for clip in found["clips"]] == [
        (second, "quarantined", 2),
        (first, "cached", 0),
    ]
    assert (found["tried"], found["cached"], found["quarantined"]) == (2, 1, 1)
    own_ave.video(second).write_bytes(sound[second])
    text = avpipe_here("quarantine", "retry", "--dataset", "ave").stdout
    assert "cache/ave: 1 clip: 1 cached" in text
    assert f"  cached      {second}" in text
    assert not (tmp_path / "cache" / "ave" / "ledger" / "quarantine.parquet").exists()
    assert sorted(open_cache(tmp_path / "cache" / "ave").clips()) == sorted(own_ave.ids)
