"""Numbers of rows beside the official ones: only a row that was left out of a split stands for one that it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from avpipe.pipeline.datasets.check.counts import Count, count, fewer_made, wrong_counts
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

OFFICIAL = {"samples of train": 10, "samples of val": 4, "samples of test": 6, "audio events of test": 20}


def dataset(clips: tuple[Clip, ...] = (), samples: tuple[Sample, ...] = (), **more: object) -> Dataset:
    return Dataset("x", Path("x"), "parsing", (), Timeline(1.0), clips, samples, **more)  # type: ignore[arg-type]


CASES = [
    ({}, {}, set()),
    ({"train": 9}, {}, {"train"}),
    ({"train": 11}, {}, {"train"}),
    ({"train": 9}, {"samples of train": 1}, set()),
    ({"train": 8}, {"samples of train": 1}, {"train"}),
    ({"test": 5}, {"samples of train": 1}, {"test"}),  # of another split
    ({"train": 9, "test": 4}, {"samples of train": 1}, {"test"}),
    ({"train": 9}, {"samples": 1}, set()),  # of a split that is not known: stands for any one
    ({"train": 9, "test": 5}, {"samples": 1}, {"train", "test"}),
    ({"train": 9, "test": 5}, {"samples": 1, "samples of test": 1}, set()),
    ({"val": 0}, {}, {"val"}),
    ({"events": 19}, {"samples of test": 1}, {"events"}),
    ({"events": 18}, {"audio events": 1}, {"events"}),
    ({"events": 19}, {"audio events": 1}, set()),
]


@pytest.mark.parametrize(("found", "left_out", "wrong"), CASES)
def test_rows_that_are_lacking_are_told_unless_they_were_left_out(found, left_out, wrong):
    short = {key: key.rpartition(" ")[2] if key.startswith("samples") else "events" for key in OFFICIAL}
    counts = [Count(key, found.get(short[key], number), number) for key, number in OFFICIAL.items()]
    # A note on a row of the official file that is left out there as well stands for nothing.
    note = Finding("unmatched-row", "eval.csv line 3", "names no video", "row left out: 'x'", NOTE)
    findings = wrong_counts(dataset(findings=(note,), left_out=left_out), counts)
    told = {short[finding.what.split(" ", 1)[1].partition(",")[0]] for finding in findings}
    assert told == wrong
    assert {(finding.kind, finding.level) for finding in findings} <= {("count", "fault")}


def test_a_split_whose_file_is_not_there_is_told_once_and_excuses_no_other():
    lacking = Finding("empty-table", "valSet.txt", "the file is empty, and 4 rows are in none of the Set files")
    without = dataset(findings=(lacking,), left_out={"samples": 4})
    official = {key: number for key, number in OFFICIAL.items() if key.startswith("samples")}
    counts = [Count(key, 0 if key.endswith("val") else number, number) for key, number in official.items()]
    assert wrong_counts(without, counts) == []
    fewer = [Count(c.what, c.found - 1, c.official) if c.what.endswith("test") else c for c in counts]
    assert [finding.what for finding in wrong_counts(without, fewer)] == ["5 samples of test, official 6"]


def test_demo_data_are_compared_with_what_was_made():
    clips = Count("clips", 8, 10)
    assert len(fewer_made(dataset(left_out={"samples of train": 1, "audio events": 5}), clips)) == 1
    assert fewer_made(dataset(left_out={"samples of train": 1, "samples": 1}), clips) == []


def test_a_video_with_two_sounds_is_one_video():
    clips = tuple(Clip(name, 60, video=Path("a.mp4"), audio=sound) for name, sound in (("a", None), ("a@b", Path("b"))))
    asked = tuple(Sample(f"test:{n}", clip.id, "test") for n, clip in enumerate(clips))
    counts = {c.what: c.found for c in count(dataset(clips, asked), 0, {"videos": {"test": 1}})}
    assert (counts["clips"], counts["videos of test"]) == (2, 1)
