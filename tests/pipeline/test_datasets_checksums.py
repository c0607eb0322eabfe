"""`sha256sums.txt` and the columns of checksums: what is read, on which clips it falls, what is said of slips."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checked import look_at

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.datasets.checksums import read_checksums
from avpipe.pipeline.errors import UnusableAnnotations

ONE, TWO = "1f" * 32, "2e" * 32
ODD = ("-a.mp4", "two  blanks.wav", "back\\slash.mp4", "line\nbreak.mp4", "ümläut.mp4")


def sums(root: Path, text: str) -> dict[str, str]:
    (root / "sha256sums.txt").write_text(text)
    return {str(Path(path).relative_to(root)): digest for path, digest in read_checksums(root)[0].items()}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
@pytest.mark.parametrize("options", [(), ("--tag",), ("--binary",)])
def test_what_sha256sum_writes_is_read(tmp_path, options):
    for name in ODD:
        (tmp_path / name).write_text(name)
    command = ["sha256sum", *options, "--", *(f"./{name}" for name in ODD)]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert sums(tmp_path, text) == {name: hashlib.sha256(name.encode()).hexdigest() for name in ODD}


def test_slips_are_named_by_line_and_the_rest_counts(tmp_path):
    text = f"# made by hand\n\n{ONE.upper()}  a/../b.mp4\r\n{ONE[1:]}  c.mp4\n{TWO}  b.mp4\n"
    assert sums(tmp_path, text) == {"b.mp4": ONE}
    findings = read_checksums(tmp_path)[1]
    assert [(f.kind, f.where.rpartition(" ")[2], f.level) for f in findings] == [
        ("bad-checksum", "4", "fault"),
        ("bad-checksum", "5", "fault"),
    ]
    assert "a second, other checksum of b.mp4" in str(findings[1])


@pytest.mark.parametrize("line", ["SHA256(./a b.mp4)= {}", "SHA2-256(a b.mp4)= {}"])
def test_what_openssl_writes_is_read(tmp_path, line):
    assert sums(tmp_path, line.format(ONE)) == {"a b.mp4": ONE}


@pytest.mark.parametrize("name", ["../a.mp4", "v/../../a.mp4", "/etc/passwd", "v/a\0.mp4", ".."])
def test_names_that_lead_out_of_the_folder_are_slips(tmp_path, name):
    root = tmp_path / "data"
    root.mkdir()
    assert sums(root, f"{ONE}  {name}\n{ONE}  {root}/b.mp4\n") == {"b.mp4": ONE}
    (finding,) = read_checksums(root)[1]
    assert (finding.kind, finding.level) == ("bad-checksum", "fault")
    assert "line 1" in finding.where
    assert "names no file in the folder" in finding.what


@pytest.mark.timeout(20)
def test_what_has_no_end_is_not_read(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("clip,media,split,segments,events\na,v.mp4,train,2,x@0-1\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "link").symlink_to(tmp_path / "v.mp4")
    right = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "sha256sums.txt").write_text(f"{ONE}  pipe\n{ONE}  zero\n{right}  link\n")
    found = {Path(f.where).name: f for f in look_at("t.csv", tmp_path).findings if f.kind == "unreadable"}
    assert found.keys() == {"pipe", "zero"}
    assert all("no regular file" in finding.what for finding in found.values())


def test_no_file_is_no_checksum_and_another_file_is_refused(tmp_path):
    assert read_checksums(tmp_path) == ({}, [])
    with pytest.raises(UnusableAnnotations, match="no line as sha256sum writes it"):
        sums(tmp_path, "<html>not found</html>\n")


def test_clips_carry_the_checksums_of_their_files(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "t.csv").write_text(
        "clip,media,audio,split,segments,media_sha256,audio_sha256,events\n"
        f"a,v.mp4,s.wav,train,2,{ONE},{TWO.upper()},x@0-1\n"
        "b,v.mp4,,train,2,,,x@0-1\n"
        f"c,v.mp4,,train,2,,{ONE},x@0-1\n"
        "d,v.mp4,,train,2,0xff,,x@0-1\n"
    )
    (tmp_path / "sha256sums.txt").write_text(f"{TWO}  ./v.mp4\n{ONE}  t.csv\n")
    found = load_dataset(str(tmp_path / "t.csv"))
    video, sound = tmp_path / "v.mp4", tmp_path / "s.wav"
    assert {clip.id: clip.sha256 for clip in found.clips} == {
        "a": ((video, ONE), (sound, TWO), (video, TWO)),
        "b": ((video, TWO),),
    }
    assert all(path.is_absolute() for path, _ in found.clips[0].absolute().sha256)
    said = {f.where.rpartition(" ")[2]: (f.kind, f.what) for f in found.findings if f.level == "fault"}
    assert said["4"] == ("broken-row", "audio_sha256 is given, and audio is not")
    assert said["5"] == ("bad-checksum", "media_sha256 is '0xff', expected 64 hexadecimal digits")


def test_data_check_compares_every_file_of_the_list(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    (tmp_path / "t.csv").write_text(f"clip,media,split,segments,events,media_sha256\na,v.mp4,train,2,x@0-1,{ONE}\n")
    right = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "sha256sums.txt").write_text(f"{right}  v.mp4\n{TWO}  t.csv\n{TWO}  gone.txt\n")
    report = look_at("t.csv", tmp_path)
    said = {(f.kind, Path(f.where).name) for f in report.findings if "SHA-256" in f.what or "lists it" in f.what}
    assert said == {("checksum", "v.mp4"), ("checksum", "t.csv"), ("missing-file", "gone.txt")}
    assert not any(f.kind == "stray-file" for f in report.findings)
    quick = look_at("t.csv", tmp_path, quick=True)
    assert not any(f.kind == "checksum" for f in quick.findings)
