"""Damaged files in copies of the demo layouts: each is found by name, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from checked import found, look_at
from plant import (
    HTML,
    POINTER,
    beside,
    content,
    cut,
    dead_link,
    flip,
    folder,
    jpeg,
    nested,
    no_index,
    not_a_number,
    other_case,
    overwrite,
    picture,
    remux,
    sound,
    text,
)

LAYOUTS = {
    "ave": {"video": "AVE_Dataset/AVE/*.mp4"},
    "avsbench-s4": {
        "frame": "**/visual_frames/val/**/*_3.png",
        "wav": "**/audio_wav/val/**/*.wav",
        "raw": "**/raw_videos/val/**/*.mp4",
        "mask": "**/gt_masks/val/**/*_2.png",
        "train mask": "**/gt_masks/train/**/*_1.png",
    },
    "avsbench-ms3": {"frame": "**/visual_frames/*/*_3.png", "mask": "**/gt_masks/val/**/*_2.png"},
    "avsbench-avss": {
        "frame": "v2/*/frames/4.jpg",
        "wav": "v2/*/audio.wav",
        "mask": "v2/*/labels_semantic/3.png",
        "clip": "v2/*",
    },
}
"""Where a file of each sort lies; the first in the order of names is damaged."""


@pytest.mark.parametrize("name", [*LAYOUTS, "llp", "music-avqa"])
def test_nothing_is_said_of_whole_data(demo_layout, name):
    report = look_at(name, demo_layout(name))
    assert report.findings == ()
    assert report.demo
    assert report.leakage.pairs == {} or name == "music-avqa"
    assert report.files >= 3


FAULTS = [
    ("ave video", Path.unlink, "missing-file"),
    ("ave video", content(b""), "empty-file"),
    ("ave video", text(POINTER), "pointer-file"),
    ("ave video", text(HTML), "text-file"),
    ("ave video", content(b"PK\x03\x04" + bytes(range(200))), "not-media"),
    ("ave video", content(bytes(20_000)), "zero-filled"),
    ("ave video", cut(0.5), "truncated"),
    ("ave video", cut(0.999), "truncated"),
    ("ave video", no_index, "truncated"),
    ("ave video", overwrite(0.5, 1.0), "truncated"),
    ("ave video", overwrite(0.3, 0.4), "damaged"),
    ("ave video", overwrite(0.3, 0.5, None), "damaged"),
    ("ave video", overwrite(0.0, 0.01, None), "broken-header"),
    ("ave video", remux(("audio",)), "no-video"),
    ("ave video", remux(("video",)), "no-audio"),
    ("ave video", remux(("video", "audio"), 2.0), "short-media"),
    ("ave video", folder, "not-a-file"),
    ("ave video", lambda path: (path.unlink(), os.mkfifo(path)), "not-a-file"),
    ("ave video", dead_link, "missing-file"),
    ("ave video", other_case, "missing-file"),
    ("ave video", nested, "missing-file"),
    ("avsbench-s4 frame", Path.unlink, "missing-file"),
    ("avsbench-s4 frame", flip, "damaged"),
    ("avsbench-s4 frame", cut(0.7), "truncated"),
    ("avsbench-s4 frame", text(POINTER), "pointer-file"),
    ("avsbench-s4 frame", picture(size=(112, 112)), "frame-size"),
    ("avsbench-s4 wav", Path.unlink, "missing-file"),
    ("avsbench-s4 wav", cut(0.6), "truncated"),
    ("avsbench-s4 wav", cut(0.0001), "truncated"),
    ("avsbench-s4 wav", content(b""), "empty-file"),
    ("avsbench-s4 wav", sound(5.0, level=0), "silent-audio"),
    ("avsbench-s4 wav", sound(1.5), "short-media"),
    ("avsbench-s4 wav", sound(60.0), "long-media"),
    ("avsbench-s4 wav", sound(0.0), "empty-audio"),
    ("avsbench-s4 wav", not_a_number, "not-finite"),
    ("avsbench-s4 wav", overwrite(0.0, 0.0003, b"\xff"), "broken-header"),
    ("avsbench-s4 raw", Path.unlink, "missing-file"),
    ("avsbench-s4 raw", cut(0.5), "truncated"),
    ("avsbench-s4 mask", Path.unlink, "missing-mask"),
    ("avsbench-s4 mask", picture(size=(112, 112)), "mask-size"),
    ("avsbench-s4 mask", picture(value=128), "mask-values"),
    ("avsbench-s4 mask", jpeg, "mask-values"),
    ("avsbench-s4 mask", picture(mode="I;16"), "mask-mode"),
    ("avsbench-s4 mask", overwrite(0.5, 0.6, None), "damaged"),
    ("avsbench-s4 mask", cut(0.9), "truncated"),
    ("avsbench-s4 train mask", Path.unlink, "missing-mask"),
    ("avsbench-s4 train mask", picture(size=(300, 200)), "mask-size"),
    ("avsbench-ms3 frame", Path.unlink, "missing-file"),
    ("avsbench-ms3 mask", Path.unlink, "missing-mask"),
    ("avsbench-ms3 mask", picture(value=7), "mask-values"),
    ("avsbench-avss frame", Path.unlink, "missing-file"),
    ("avsbench-avss frame", cut(0.8), "truncated"),
    ("avsbench-avss frame", overwrite(0.4, 0.6, None), "damaged"),
    ("avsbench-avss frame", overwrite(0.4, 0.6), "damaged"),
    ("avsbench-avss wav", Path.unlink, "missing-file"),
    ("avsbench-avss mask", Path.unlink, "missing-mask"),
    ("avsbench-avss mask", picture(value=71), "unknown-class"),
    ("avsbench-avss mask", picture(size=(224, 224)), "mask-size"),
]


def first(root: Path, sort: str) -> Path:
    """The file that `LAYOUTS` names, below `root`."""
    name, _, which = sort.partition(" ")
    return min(root.glob(LAYOUTS[name][which]))


@pytest.mark.parametrize(("sort", "damage", "kind"), FAULTS, ids=[f"{s}-{k}-{i}" for i, (s, _, k) in enumerate(FAULTS)])
def test_a_damaged_file_is_found_by_name(copy_of, sort, damage, kind):
    root = copy_of(sort.split(" ", maxsplit=1)[0])
    path = first(root, sort)
    damage(path)
    report = look_at(sort.split(" ", maxsplit=1)[0], root)
    assert found(report) == {(kind, str(path.relative_to(root)))}


EXTRAS = [
    ("ave video", beside("notes.doc"), "stray-file", "notes.doc"),
    ("ave video", beside("{stem} (1).mp4"), "stray-file", "{stem} (1).mp4"),
    ("ave video", beside("{name}.part"), "unfinished-download", "{name}.part"),
    ("ave video", beside("{stem}.MP4"), "case-clash", "{stem}.MP4"),
    ("avsbench-s4 train mask", beside("{stem}_2.png"), "extra-mask", "{stem}_2.png"),
    ("avsbench-avss mask", beside("10.png"), "extra-mask", "10.png"),
]


@pytest.mark.parametrize(("sort", "add", "kind", "name"), EXTRAS, ids=[e[3] for e in EXTRAS])
def test_a_file_too_many_is_found_by_name(copy_of, sort, add, kind, name):
    root = copy_of(sort.split(" ", maxsplit=1)[0])
    path = first(root, sort)
    add(path)
    expected = path.parent / name.format(name=path.name, stem=path.stem)
    assert found(look_at(sort.split(" ", maxsplit=1)[0], root)) == {(kind, str(expected.relative_to(root)))}


@pytest.mark.parametrize(
    ("name", "table", "column", "word", "told", "sort"),
    [
        ("avsbench-s4", "Single-source/s4_meta_data.csv", "category", "bagpipes", "unknown-class", "train mask"),
        ("avsbench-avss", "metadata.csv", "a_obj", "bagpipes", "odd-objects", "mask"),
    ],
)
def test_a_mask_too_many_is_found_whatever_is_wrong_with_other_rows(copy_of, name, table, column, word, told, sort):
    root = copy_of(name)
    mask = first(root, f"{name} {sort}")
    header, *rows = [line.split(",") for line in (root / table).read_text().splitlines()]
    other = next(row for row in rows if row[0] not in str(mask))
    other[header.index(column)] = word
    (root / table).write_text("\n".join(map(",".join, [header, *rows])))
    extra = mask.with_name(f"{mask.stem[:-1]}20.png")
    extra.write_bytes(mask.read_bytes())
    places = dict(found(look_at(name, root, quick=True)))
    assert set(places) == {told, "extra-mask"}
    assert places["extra-mask"] == str(extra.relative_to(root))


def test_where_all_files_of_a_kind_are_lost_none_stands_in_for_another(copy_of):
    root = copy_of("avsbench-s4")
    shutil.rmtree(first(root, "avsbench-s4 frame").parent)
    first(root, "avsbench-s4 raw").unlink()
    report = look_at("avsbench-s4", root, quick=True)
    assert {finding.kind for finding in report.findings} == {"missing-folder", "missing-file"}
    assert all(finding.done.startswith("extraction will quarantine") for finding in report.findings)
    root = copy_of("avsbench-avss")
    for labels in first(root, "avsbench-avss clip").glob("labels_*"):
        shutil.rmtree(labels)
    gone = look_at("avsbench-avss", root, quick=True).findings
    assert {finding.done for finding in gone} == {"their segments have no masks"}


@pytest.mark.parametrize("name", [".DS_Store", "._{name}", "Thumbs.db", "desktop.ini"])
def test_what_systems_leave_behind_is_no_finding(copy_of, name):
    root = copy_of("ave")
    beside(name)(first(root, "ave video"))
    assert found(look_at("ave", root)) == set()


def test_the_folder_of_no_clip_is_found(copy_of):
    root = copy_of("avsbench-avss")
    shutil.copytree(first(root, "avsbench-avss clip"), root / "v2" / "ABCDEFGHIJK_0_10000")
    assert found(look_at("avsbench-avss", root)) == {("stray-file", "v2/ABCDEFGHIJK_0_10000")}


def test_equal_content_under_two_ids_is_found(copy_of):
    root = copy_of("ave")
    one, other, _ = sorted(root.glob(LAYOUTS["ave"]["video"]))
    shutil.copyfile(one, other)
    (finding,) = look_at("ave", root).findings
    assert finding.kind == "duplicate-content"
    assert {str(one), str(other)} == {finding.where, finding.what.removeprefix("the same bytes as ")}


def test_pictures_of_another_clip_are_found(copy_of):
    root = copy_of("avsbench-avss")
    one, other = sorted(root.glob("v*/*/frames"))[:2]
    shutil.rmtree(other)
    shutil.copytree(one, other)
    kinds = {finding.kind for finding in look_at("avsbench-avss", root).findings}
    assert "duplicate-content" in kinds


def test_many_faults_at_a_time_are_found_each(copy_of):
    root = copy_of("avsbench-s4")
    expected = set()
    chosen = {"frame": (flip, "damaged"), "wav": (cut(0.5), "truncated"), "raw": (content(b""), "empty-file")}
    chosen |= {"mask": (picture(value=9), "mask-values"), "train mask": (Path.unlink, "missing-mask")}
    for sort, (damage, kind) in chosen.items():
        path = first(root, f"avsbench-s4 {sort}")
        damage(path)
        expected.add((kind, str(path.relative_to(root))))
    report = look_at("avsbench-s4", root)
    assert found(report) == expected
    assert report.faults == len(expected)


def test_silent_sound_of_several_clips_is_no_duplicate(copy_of):
    root = copy_of("avsbench-s4")
    wavs = sorted(root.glob("**/audio_wav/*/**/*.wav"))[:2]
    for wav in wavs:
        sound(5.0, level=0)(wav)
    assert found(look_at("avsbench-s4", root)) == {("silent-audio", str(wav.relative_to(root))) for wav in wavs}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("sort", ["video", "folder"])
def test_what_may_not_be_read_is_found(copy_of, sort):
    root = copy_of("ave")
    path = first(root, "ave video")
    locked = path if sort == "video" else path.parent
    locked.chmod(0)
    try:
        assert found(look_at("ave", root)) == {("unreadable", str(locked.relative_to(root)))}
    finally:
        locked.chmod(0o755)


def test_quick_looks_at_first_bytes_only(copy_of):
    root = copy_of("ave")
    missing, pointer, broken = sorted(root.glob(LAYOUTS["ave"]["video"]))
    missing.unlink()
    pointer.write_text(POINTER)
    cut(0.5)(broken)
    kinds = {kind for kind, _ in found(look_at("ave", root, quick=True))}
    assert kinds == {"missing-file", "pointer-file"}


def test_nothing_is_written(copy_of):
    root = copy_of("avsbench-avss")
    first(root, "avsbench-avss frame").unlink()
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    look_at("avsbench-avss", root)
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_missing_file_that_lies_elsewhere_is_pointed_at(copy_of):
    root = copy_of("ave")
    path = first(root, "ave video")
    nested(path)
    (finding,) = look_at("ave", root).findings
    assert str(path.parent / "AVE" / path.name) in finding.what


def _down(folder: Path) -> Path:
    """Moves what a folder holds into a folder of the same name within it."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    aside.rename(folder / folder.name)
    return folder / folder.name


@pytest.mark.parametrize("kinds", [("gt_masks",), ("gt_masks", "visual_frames")])
def test_folders_that_were_unpacked_one_too_deep_are_pointed_at(copy_of, kinds):
    root = copy_of("avsbench-s4")
    data = root / "Single-source" / "s4_data"
    deeper = [_down(data / kind) for kind in kinds]
    findings = look_at("avsbench-s4", root, quick=True).findings
    assert len(findings) == sum(len(list(folder.iterdir())) for folder in deeper)  # one a split
    for finding in findings:
        there = Path(finding.what.partition("there is ")[2].partition(": ")[0])
        assert there.exists()
        folder = next(folder for folder in deeper if folder in there.parents)
        assert there == folder / Path(finding.where).relative_to(folder.parent)


def test_a_clip_in_the_folder_of_another_part_is_pointed_at_and_no_stray(copy_of):
    root = copy_of("avsbench-avss")
    clip = first(root, "avsbench-avss clip")
    clip.rename(root / "v1s" / clip.name)
    (finding,) = look_at("avsbench-avss", root, quick=True).findings
    assert (finding.kind, finding.where) == ("missing-folder", str(clip))
    assert f"there is {root / 'v1s' / clip.name}: " in finding.what


def test_a_file_in_place_of_a_folder_of_frames_is_told_once(copy_of):
    root = copy_of("avsbench-s4")
    frames = first(root, "avsbench-s4 frame").parent
    shutil.rmtree(frames)
    frames.write_bytes(b"not a folder")
    (finding,) = look_at("avsbench-s4", root, quick=True).findings
    assert (finding.kind, finding.where) == ("missing-folder", str(frames))
    assert finding.what.startswith("a file in place of a folder; 5 files ")


@pytest.mark.parametrize(("folder", "kind"), [("audio_wav", "sound-from-video"), ("visual_frames", "from-video")])
def test_media_for_which_raw_videos_stand_in_are_a_note(copy_of, folder, kind):
    root = copy_of("avsbench-s4")
    shutil.rmtree(root / "Single-source" / "s4_data" / folder)
    report = look_at("avsbench-s4", root, quick=True)
    assert found(report) == {(kind, "Single-source")}
    assert report.faults == 0
