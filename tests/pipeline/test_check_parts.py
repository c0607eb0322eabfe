"""Parts of the check: leakage, looks in processes, layouts whose frames are picked from many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checked import found, look_at
from PIL import Image
from plant import sound

from avpipe.pipeline import progress
from avpipe.pipeline.datasets.check import looking
from avpipe.pipeline.datasets.check.leakage import leakage
from avpipe.pipeline.datasets.check.look import look
from avpipe.pipeline.manifest import Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"
official = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="without the official annotation files")


def dataset_of(root: Path, splits: dict[str, str], sources: dict[str, str], task: str = "events") -> Dataset:
    clips = tuple(Clip(name, 10, video=root / f"{name}.mp4", source=sources.get(name, "")) for name in splits)
    samples = tuple(Sample(name, name, split) for name, split in splits.items())
    return Dataset("toy", root, task, ("a", "background"), Timeline(), clips, samples)


def test_leakage_goes_by_recording():
    splits = {"a": "train", "b": "train", "c": "val", "d": "test"}
    shared = leakage(dataset_of(Path("x"), splits, {"a": "one", "c": "one", "d": "one", "b": "two"}))
    assert shared.pairs == {"train/val": ["one"], "train/test": ["one"], "val/test": ["one"]}
    assert (shared.names, shared.recordings, shared.parts) == (["one"], 2, {})


def test_leakage_between_parts_of_a_semantic_dataset():
    splits = {"v1/a": "train", "v2/b": "test", "v2/c": "test", "v2/d": "val"}
    sources = {"v1/a": "one", "v2/b": "one", "v2/c": "two", "v2/d": "two"}
    assert leakage(dataset_of(Path("x"), splits, sources, "semantic")).parts == {"v1 + v2": 1, "v2": 1}


@official
@pytest.mark.parametrize(
    ("name", "files", "numbers"),
    [
        ("ave", "ave/*.txt", {"train/val": 10, "train/test": 8}),
        ("avsbench-ms3", "avsbench/ms3_meta_data.csv", 56),
        pytest.param("avsbench-avss", "avsbench/metadata.csv", 81, marks=pytest.mark.slow),
        ("music-avqa", "music_avqa/json_update", {"val/test": 2296}),
        pytest.param("avsbench-s4", "avsbench/s4_meta_data.csv", {}, marks=pytest.mark.slow),
        pytest.param("llp", "llp/AVVP_*[a-z].csv", {}, marks=pytest.mark.slow),
    ],
)
def test_leakage_of_the_official_splits(tmp_path, name, files, numbers):
    for file in ANNOTATIONS.glob(files):
        (tmp_path / file.name).symlink_to(file)
    report = look_at(name, tmp_path, quick=True)
    pairs = {pair: len(names) for pair, names in report.leakage.pairs.items()}
    assert (len(report.leakage.names) if isinstance(numbers, int) else pairs) == numbers
    if name == "avsbench-avss":
        assert report.leakage.parts == {"v1m": 48, "v1m + v2": 11, "v1s + v2": 22}
    assert {finding.kind for finding in report.findings if finding.level == "fault"} <= {
        "missing-folder",
        "missing-table",
    }
    wrong = [count for count in report.counts if count.official not in (None, count.found)]
    assert {count.what for count in wrong} <= {"masks", "clips", "samples", "samples of train"}  # avqa's is not there


@pytest.mark.slow
def test_a_file_that_hangs_its_reader_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "DEADLINE_SECONDS", 2.0)
    os.mkfifo(tmp_path / "hangs.wav")
    sound(1.0)(tmp_path / "fine.wav")
    files = {tmp_path / name: "audio" for name in ("hangs.wav", "fine.wav")}
    with looking.Lookout(1) as lookout, progress.task("check", 2) as task:
        seen = lookout.look(files, task)
    assert seen[tmp_path / "fine.wav"].facts["seconds"] == 1.0
    assert seen[tmp_path / "hangs.wav"].kind == "broken-header"
    assert "no answer" in seen[tmp_path / "hangs.wav"].what


def test_processes_see_what_this_one_sees(tmp_path):
    sound(1.0)(tmp_path / "a.wav")
    sound(2.0, level=0)(tmp_path / "b.wav")
    (tmp_path / "c.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(12))
    Image.new("L", (8, 4), 255).save(tmp_path / "d.png")
    files = {tmp_path / "a.wav": "audio", tmp_path / "b.wav": "audio", tmp_path / "c.mp4": "video"}
    files[tmp_path / "d.png"] = "mask"
    with looking.Lookout(1) as lookout, progress.task("check", 4) as task:
        assert lookout.look(files, task) == {path: look(role, path) for path, role in files.items()}


@pytest.fixture
def picked(tmp_path) -> Path:
    """AVE with frames at three a second and a wav for each of three videos."""
    rows = [f"Bark&vid{number}clip0_&good&0&10" for number in range(3)]
    (tmp_path / "Annotations.txt").write_text("\n".join(rows) + "\n")
    for split, row in zip(("train", "val", "test"), rows, strict=True):
        (tmp_path / f"{split}Set.txt").write_text(row + "\n")
        name = row.split("&")[1]
        folder = tmp_path / "video_frames" / name
        folder.mkdir(parents=True)
        for number in range(1, 31):
            Image.new("RGB", (32, 24), (number, len(split), 7 * len(row))).save(folder / f"{number:04d}.jpg")
        (tmp_path / "raw_audio").mkdir(exist_ok=True)
        sound(10.0, level=1000 + len(name + split))(tmp_path / "raw_audio" / f"{name}.wav")
    return tmp_path


def test_frames_picked_from_many_are_whole(picked):
    report = look_at("ave", picked)
    assert {kind for kind, _ in found(report)} <= {"count"}
    assert report.files == 33


def test_a_gap_among_numbered_frames_is_found(picked):
    folder = min((picked / "video_frames").iterdir())
    (folder / "0007.jpg").unlink()
    (folder / "0021.jpg").unlink()
    gap = next(finding for finding in look_at("ave", picked).findings if finding.kind != "count")
    assert (gap.kind, gap.where) == ("missing-frame", str(folder))
    assert gap.what == "picture 7, 21 of 1 to 30 is missing"


def test_frames_that_stop_early_are_found(picked):
    folder = min((picked / "video_frames").iterdir())
    for number in range(16, 31):
        (folder / f"{number:04d}.jpg").unlink()
    assert ("short-media", f"video_frames/{folder.name}") in found(look_at("ave", picked))
