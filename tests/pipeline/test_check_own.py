"""Checks of a user's own table: each fault once, by file and row; no strays among what it names; leakage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checked import found, look_at
from plant import HTML, cut, sound

from avpipe.stages.demo.encode import write_mp4, write_png

PICTURE = np.full((16, 16, 3), 90, np.uint8)
MASK = np.zeros((16, 16), np.uint8)


@pytest.fixture
def check(tmp_path):
    """Writes a table and checks it: kind, place and level of every finding."""

    def of(header: str, *rows: str, quick: bool = True):
        (tmp_path / "t.csv").write_text("\n".join([header, *rows]) + "\n")
        return look_at("t.csv", tmp_path, quick=quick)

    return of


def pictures(folder: Path, *numbers: str, picture=PICTURE) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        write_png(folder / f"{number}.png", picture)


def test_folders_that_the_table_names_are_no_strays_and_masks_too_many_are_told_once(check, tmp_path):
    for name in ("one", "two", "three"):
        pictures(tmp_path / "f" / name, "1", "2")
    pictures(tmp_path / "masks" / "sub_inner", "1", "2", picture=MASK)
    pictures(tmp_path / "masks" / "two", "1", "01", "3", "4", picture=MASK)
    pictures(tmp_path / "masks" / "none")
    pictures(tmp_path / "masks" / "old", "1", picture=MASK)
    report = check(
        "clip,frames,split,masks",
        "sub/inner,f/one,train,masks/sub_inner",
        "two,f/two,val,f/../masks/two",
        "three,f/three,test,masks/none",
    )
    assert {place for place in found(report) if place[0] != "one-modality"} == {
        ("double-mask", "f/../masks/two/1.png"),
        ("extra-mask", "t.csv line 3"),
        ("missing-masks", "t.csv line 4"),
    }
    # A folder that nothing names, where two clips have one of their name.
    report = check("clip,frames,split,masks", "one,f/one,train,masks/sub_inner", "two,f/two,val,masks/two")
    assert ("stray-file", "f/three") in found(report)


def test_a_broken_or_missing_file_is_told_once_with_its_row_and_where_it_may_be(check, tmp_path):
    for name in ("cut", "Other"):
        write_mp4(tmp_path / f"{name}.mp4", np.stack([PICTURE] * 10), 10, np.zeros((1, 16_000), np.float32), 16_000)
    cut(0.5)(tmp_path / "cut.mp4")
    pictures(tmp_path / "f", "1")
    (tmp_path / "page.wav").write_text(HTML)
    (tmp_path / "sub").mkdir()
    sound(1.0)(tmp_path / "sub" / "moved.wav")
    report = check(
        "clip,media,frames,audio,split,events",
        "a,cut.mp4,,,train,",
        "b,other.mp4,,,train,",
        "c,,,moved.wav,train,",
        "d,,f,page.wav,train,",
        "e,gone.mp4,,,train,x@0-1;y@0-1",
        "f,https://x.y/z.mp4,,,train,",
        quick=False,
    )
    told = {Path(f.where).name: f"{f.kind}: {f.what}; {f.done}" for f in report.findings if f.level == "fault"}
    fails = "; the clip is listed, and its extraction will fail"
    assert told.pop("cut.mp4").startswith("truncated: cut short: ")
    assert told.pop("t.csv line 6").startswith("bad-event: ")
    assert told.pop("t.csv line 7").startswith(
        "broken-row: media is an address, 'https://x.y/z.mp4': nothing is fetched"
    )
    assert told == {
        "other.mp4": f"missing-file: no such file; there is 'Other.mp4', in other case (t.csv line 3){fails}",
        "moved.wav": f"missing-file: no such file; there is {tmp_path}/sub/moved.wav: unpacked or moved to another "
        f"folder? (t.csv line 4){fails}",
        "page.wav": "text-file: an HTML page, not media (t.csv line 5); row left out: its length is not known",
        "gone.mp4": "missing-file: no such file (t.csv line 6); the row is left out",
    }


def test_splits_that_share_a_recording_or_a_file_are_a_fault(check, tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF\xff\xfe")
    rows = ("1,a.wav,train,", "2,./a.wav,test,", "3,b.wav,train,tape", "4,c.wav,val,tape", "5,d.wav,train,q")
    report = check("clip,audio,split,source,segments,events", *(f"{row},3,x@0-1" for row in (*rows, "6,d.wav,test,r")))
    leaks = {finding.where.rpartition("/")[2]: finding.what for finding in report.findings if finding.kind == "leakage"}
    assert report.faults == 3
    assert leaks["d.wav"].startswith("clips '5' and '6' are this one file, in train and in test (t.csv line 6 and 1")
    assert [finding.what for finding in report.findings if finding.where == str(tmp_path / "t.csv")][1:] == [
        "recording 'a.wav' is in train (clip '1') and test (clip '2')",
        "recording 'tape' is in train (clip '3') and val (clip '4')",
    ]
    within = check("clip,audio,split,segments,events", "1,a.wav,train,3,x@0-1", "2,a.wav,train,3,", "3,b.wav,val,3,")
    assert within.faults == 0
    assert ("same-media", "a.wav") in found(within)
