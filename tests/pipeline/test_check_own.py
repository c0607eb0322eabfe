"""Checks of a user's own table: each fault once, by file and row; no strays among what it names; leakage."""

from __future__ import annotations

import hashlib
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


def test_a_checksum_is_the_fault_of_the_rows_that_give_it(check, tmp_path):
    sound(1.0)(tmp_path / "a.wav")
    right, wrong = hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest(), "0" * 64
    rows = (f"1,a.wav,{right}", "2,a.wav,", f"3,a.wav,{wrong}", "4,a.wav,")
    report = check(
        "clip,audio,audio_sha256,split,segments,events", *(f"{row},train,1,x@0-1" for row in rows), quick=False
    )
    (fault,) = [finding for finding in report.findings if finding.level == "fault"]
    assert (fault.kind, fault.where, fault.done) == (
        *("checksum", str(tmp_path / "a.wav"), "extraction quarantines clip '3'"),
    )
    assert fault.what.endswith("0... (t.csv line 4)")
    assert {finding.done for finding in report.findings if finding.kind == "same-media"} == {""}


def test_what_is_wrong_with_one_row_is_not_said_of_the_others_on_its_file(check, tmp_path):
    pictures(tmp_path / "f", "1", "2")
    sound(2.0)(tmp_path / "a.wav")
    rows = ("1,,f,a.wav,train,x@0-1", "2,f,,a.wav,train,", "3,,a.wav,,train,", "4,,,a.wav,train,")
    report = check("clip,media,frames,audio,split,events", *rows)
    told = {finding.kind: finding for finding in report.findings if finding.level == "fault"}
    assert told["not-a-file"].what == "a folder in place of a file (t.csv line 3)"
    assert told["missing-file"].where.endswith("t.csv line 4")
    shared = [finding for finding in report.findings if finding.kind == "same-media"]
    assert [(Path(finding.where).name, finding.done) for finding in shared] == [("a.wav", "")]


def test_folders_that_give_no_pictures_are_told_once_by_what_is_wrong_in_them(check, tmp_path):
    pictures(tmp_path / "letters", "a", "b")
    pictures(tmp_path / "few", "5", "a", "b")
    pictures(tmp_path / "outer" / "inner", "1")
    rows = [f"{name},{name},train,x@0-1" for name in ("letters", "few", "outer", "gone")]
    report = check("clip,frames,split,events", *rows)
    faults = {Path(finding.where).name: str(finding.what) for finding in report.findings if finding.level == "fault"}
    assert faults.keys() == {"letters", "few", "outer", "gone"}
    assert faults["letters"].startswith("no picture in it has a number")
    assert "0001.jpg" in faults["letters"]
    assert faults["few"].startswith("1 of its 3 pictures numbered alike ('5.png'), others not ('a.png')")
    assert faults["outer"].startswith("no pictures in it, but in its folder 'inner'; name that one")
    assert faults["gone"] == "no such folder of pictures (t.csv line 5)"


def test_numbers_that_count_no_pictures_are_no_gap(check, tmp_path):
    pictures(tmp_path / "times", *(f"at 2024-05-0{n} 10.11.1{n}" for n in range(1, 5)))
    pictures(tmp_path / "ms", "40", "80", "1200", "3960")
    pictures(tmp_path / "from5", "5", "6", "7", "8")
    pictures(tmp_path / "many", *map(str, (n for n in range(1, 41) if n != 3)))
    rows = [f"{name},{name},4,train," for name in ("times", "ms", "from5", "many")]
    report = check("clip,frames,segments,split,events", *rows)
    faults = [(finding.kind, Path(finding.where).name) for finding in report.findings if finding.level == "fault"]
    assert faults == [("missing-frame", "many")]


def test_sound_in_place_of_a_video_is_looked_at_as_sound(check, tmp_path):
    for name in ("whole", "cut", "pipe"):
        sound(2.0)(tmp_path / f"{name}.wav")
    cut(0.5)(tmp_path / "cut.wav")
    header = bytearray((tmp_path / "pipe.wav").read_bytes())
    header[4:8] = header[40:44] = b"\xff" * 4
    (tmp_path / "pipe.wav").write_bytes(header + b"\1\0")
    rows = [f"{name},{name}.wav,train,x@0-1" for name in ("whole", "cut", "pipe")]
    report = check("clip,media,split,events", *rows, quick=False)
    (fault,) = [finding for finding in report.findings if finding.level == "fault"]
    assert (fault.kind, Path(fault.where).name) == ("truncated", "cut.wav")
    assert "s are there" in fault.what


def test_libraries_print_nothing(check, tmp_path, capfd):
    (tmp_path / "a.mp3").write_bytes(b"ID3\4\0\0\0\0\0\0" + bytes(range(1, 101)) * 1000)
    report = check("clip,audio,split,events", "a,a.mp3,train,x@0-1", quick=False)
    assert report.faults
    assert "mpg123" not in capfd.readouterr().err
