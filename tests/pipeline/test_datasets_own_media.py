"""How many segments a user's clips have: told by the table, the cache, or the headers of the media."""

from __future__ import annotations

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, own_media
from avpipe.pipeline.datasets.own_settings import OwnSettings
from avpipe.pipeline.errors import InputRejected
from avpipe.stages.demo.encode import write_mp4, write_png, write_wav

PICTURE = np.full((16, 16, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Videos of 2.4 s and 0.3 s, a wav of 3.6 s, seven pictures, and things that are no media."""
    folder = tmp_path_factory.mktemp("media")
    for name, seconds in (("v", 2.4), ("short", 0.3)):
        pictures = np.broadcast_to(PICTURE, (round(seconds * 10), 16, 16, 3))
        write_mp4(folder / f"{name}.mp4", pictures, 10, np.zeros((1, round(seconds * 16_000)), np.float32), 16_000)
    write_wav(folder / "w.wav", np.zeros((1, 57_600), np.float32), 16_000)
    (folder / "f").mkdir()
    (folder / "empty").mkdir()
    for number in range(7):
        write_png(folder / "f" / f"{number + 1:04d}.png", PICTURE)
    whole = (folder / "v.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index is at the end
    (folder / "text.wav").write_text("<html>not found</html>")
    return folder


ROWS = {
    "video": ("v.mp4", "", "", 2),
    "shorter than a segment": ("short.mp4", "", "", 1),
    "sound": ("", "", "w.wav", 4),
    "pictures with sound": ("", "f", "w.wav", 4),
    "pictures": ("", "f", "", 7),
    "video with other sound": ("v.mp4", "", "w.wav", 2),
}
LOST = {  # what is wrong, and whether the clip is listed all the same
    "gone": ("gone.mp4", "", "", "missing-file", True),
    "a folder": ("empty", "", "", "missing-file", True),
    "no pictures": ("", "empty", "", "missing-file", True),
    "no sound": ("", "f", "gone.wav", "missing-file", False),
    "broken": ("cut.mp4", "", "", "unreadable-file", True),
    "broken sound": ("", "f", "text.wav", "unreadable-file", False),
}


def write(folder, *, only=None) -> str:
    lines = ["clip,media,frames,audio,split,events"]
    lines += [
        f"{name},{','.join(row[:3])},train,x@0-0.4" for name, row in (ROWS | LOST).items() if only in (None, name)
    ]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "t.csv")


def test_lengths_are_those_of_the_media_and_lost_files_are_named(media):
    found = load_dataset(write(media))
    lengths = {clip.id: clip.segments for clip in found.clips}
    assert {name: lengths[name] for name in ROWS} == {name: row[3] for name, row in ROWS.items()}
    assert set(lengths) - set(ROWS) == {name for name, row in LOST.items() if row[4]}
    faults = {f.where.rpartition(" ")[2]: f for f in found.findings if f.level == "fault"}
    lines = {name: str(number) for number, name in enumerate(ROWS | LOST, start=2)}
    assert {line: f.kind for line, f in faults.items()} == {lines[name]: row[3] for name, row in LOST.items()}
    for name, row in LOST.items():
        assert ("row left out" in faults[lines[name]].done) != row[4]
    clips = {clip.id: clip for clip in found.clips}
    assert [path.stem for path in clips["pictures"].frames] == [f"{n:04d}" for n in range(1, 8)]
    assert [path.stem for path in clips["pictures with sound"].frames] == ["0001", "0003", "0005", "0007"]
    assert clips["video with other sound"].audio == media / "w.wav"
    assert clips["no pictures"].frames == (media / "empty",)


def test_a_cap_cuts_clips_and_keeps_their_pictures_in_time(media):
    found = load_dataset(write(media), options={"segments": "3", "segment_seconds": "0.5"})
    lengths = {clip.id: clip.segments for clip in found.clips}
    assert [lengths[name] for name in ROWS] == [3, 1, 3, 3, 3, 3]
    frames = {clip.id: clip.frames for clip in found.clips}
    assert [path.stem for path in frames["pictures with sound"]] == ["0001", "0002", "0003"]
    assert "clip 'sound' has 7 segments, of which it keeps the first 3" in [f.what for f in found.findings]


def test_media_that_the_cache_knows_are_not_opened(media, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(own_media, "lengths", lambda clips: asked.extend(c.id for c in clips) or {})
    found = load_dataset(write(media), segments=dict.fromkeys(ROWS, 2) | {"gone": 5})
    assert set(asked) == {"broken", "broken sound"}
    lengths = {clip.id: clip.segments for clip in found.clips}
    assert [lengths[name] for name in ("video", "pictures with sound", "pictures", "gone")] == [2, 2, 7, 5]
    asked.clear()
    load_dataset(write(media), options={"segments": "2"}, segments=dict.fromkeys(ROWS, 2))
    # Clips that are as long as clips may be may have been cut: which pictures are theirs depends on their true length.
    assert "pictures with sound" in asked
    assert "video" not in asked


def test_an_event_past_the_end_is_judged_by_the_whole_clip_even_where_the_cache_has_a_part(media):
    (media / "late.csv").write_text("clip,media,split,events\na,v.mp4,train,x@0-2.3\nb,v.mp4,train,x@0-7\n")
    for known in ({}, {"a": 1, "b": 1}):
        found = load_dataset(str(media / "late.csv"), options={"segments": "1"}, segments=known)
        assert [sample.id for sample in found.samples] == ["a"]
        assert [f.where.rpartition(" ")[2] for f in found.findings if f.kind == "bad-event"] == ["3"]


def test_a_file_that_does_not_say_how_long_it_is_needs_the_column(monkeypatch, tmp_path):
    (tmp_path / "v.mkv").write_bytes(b"x")
    silent = InputRejected("v.mkv: it does not say how long it is", stage=own_media.SILENT)
    monkeypatch.setattr(own_media, "lengths", lambda clips: {clip.id: silent for clip in clips})
    (tmp_path / "t.csv").write_text("clip,media,split,segments,events\na,v.mkv,train,,\nb,v.mkv,train,3,\n")
    found = load_dataset(str(tmp_path / "t.csv"))
    assert [(clip.id, clip.segments) for clip in found.clips] == [("b", 3)]
    assert [(f.kind, f.where.rpartition(" ")[2]) for f in found.findings if f.level == "fault"] == [
        ("unknown-length", "2")
    ]


def test_lost_clips_are_as_long_as_their_labels_speak_of(tmp_path):
    (tmp_path / "m").mkdir()
    for number in (1, 2, 7):
        write_png(tmp_path / "m" / f"{number}.png", PICTURE)
    (tmp_path / "t.csv").write_text("clip,media,split,masks\na,v.mp4,train,m\n")
    found = load_dataset(str(tmp_path / "t.csv"))
    assert [clip.segments for clip in found.clips] == [3]
    assert [f.kind for f in found.findings if f.level == "fault"] == ["missing-file"]  # who knows how long it is
    assert OwnSettings(tmp_path).options() == {"segment_seconds": "1", "frame_position": "0.5"}
