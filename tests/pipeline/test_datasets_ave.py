from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "annotations" / "ave"
GOLDEN = SHARED / "golden" / "ave" / "labels_and_splits.npz"
HEADER = "Category&VideoID&Quality&StartTime&EndTime"
BELL, BARK, BACKGROUND = 0, 2, 28

needs_real = pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")


def write(base: Path, annotations: list[str], **sets: list[str]) -> Path:
    base.mkdir(parents=True)
    (base / "Annotations.txt").write_text("\n".join(annotations) + "\n")
    for split in ("train", "val", "test"):
        (base / f"{split}Set.txt").write_text("\n".join(sets.get(split, [])) + "\n")
    return base


def copy_real(base: Path, annotations: str) -> Path:
    base.mkdir(parents=True)
    (base / "Annotations.txt").write_bytes((REAL / annotations).read_bytes())
    for split in ("train", "val", "test"):
        (base / f"{split}Set.txt").write_bytes((REAL / f"{split}Set.txt").read_bytes())
    return base


@needs_real
@pytest.mark.parametrize("annotations", ["Annotations.txt", "Annotations.no_header.txt"])
def test_real_files_give_the_official_labels(tmp_path, annotations):
    dataset = load_dataset("ave", copy_real(tmp_path / "AVE_Dataset", annotations).parent)
    golden = np.load(GOLDEN)
    for split in ("train", "val", "test"):
        samples = dataset.split(split)
        rows = [int(sample.id.partition(":")[0]) for sample in samples]
        assert rows == golden[f"{split}_index"].tolist()
        assert np.array_equal([sample.events for sample in samples], golden["segment_labels"][rows])
    assert len({sample.id for sample in dataset.samples}) == 4143
    assert len({clip.id for clip in dataset.clips}) == len(dataset.clips) == 4097
    assert sorted(Counter(Counter(sample.clip for sample in dataset.samples).values()).items()) == [
        (1, 4052),
        (2, 44),
        (3, 1),
    ]
    assert sum(clip.id.startswith("-") for clip in dataset.clips) == 1012


@needs_real
def test_real_oddity_is_named(tmp_path):
    dataset = load_dataset("ave", copy_real(tmp_path / "AVE_Dataset", "Annotations.txt").parent)
    assert [note for note in dataset.notes if "line 28" not in note] == []
    assert "event from 0 to 0, so all background" in dataset.notes[0]
    (sample,) = [s for s in dataset.samples if s.clip == "VWi2ENBuTbw"]
    assert sample.id == "26:VWi2ENBuTbw"
    assert set(sample.events) == {BACKGROUND}


def test_events_cover_start_to_end(tmp_path):
    row = "Bark&-abcdefghij&good&2&5"
    base = write(tmp_path / "AVE_Dataset", [HEADER, row], val=[row])
    dataset = load_dataset("ave", tmp_path)
    (sample,) = dataset.samples
    assert (sample.id, sample.clip, sample.split) == ("0:-abcdefghij", "-abcdefghij", "val")
    assert sample.events == (BACKGROUND,) * 2 + (BARK,) * 3 + (BACKGROUND,) * 5
    (clip,) = dataset.clips
    assert clip.media() == (base / "AVE" / "-abcdefghij.mp4",)
    assert (clip.segments, dataset.timeline.frame_time(3)) == (10, 3.5)
    assert dataset.notes == ()


def test_root_may_be_the_inner_folder(tmp_path):
    base = write(tmp_path / "AVE_Dataset", ["Bark&aaaaaaaaaaa&good&0&1"], train=["Bark&aaaaaaaaaaa&good&0&1"])
    assert load_dataset("ave", base).clips == load_dataset("ave", tmp_path).clips


def test_two_rows_on_one_video_are_two_samples_on_one_clip(tmp_path):
    rows = ["Church bell&aaaaaaaaaaa&good&0&4", "Bark&aaaaaaaaaaa&good&2&9"]
    write(tmp_path / "AVE_Dataset", [HEADER, *rows], train=[rows[1]], test=[rows[0]])
    dataset = load_dataset("ave", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["1:aaaaaaaaaaa", "0:aaaaaaaaaaa"]
    assert [sample.events[3] for sample in dataset.samples] == [BARK, BELL]
    assert len(dataset.clips) == 1


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("Bark&bbbbbbbbbbb&good&0", "4 fields instead of 5"),
        ("Barking&bbbbbbbbbbb&good&0&5", "unknown category 'Barking'"),
        ("background&bbbbbbbbbbb&good&0&5", "unknown category 'background'"),
        ("Bark&../../etc/x&good&0&5", "no video id"),
        ("Bark&bbbbbbbbbbb&good&5&2", "start 5 and end 2"),
        ("Bark&bbbbbbbbbbb&good&0&11", "start 0 and end 11"),
        ("Bark&bbbbbbbbbbb&good&-1&5", "start -1 and end 5"),
        ("Bark&bbbbbbbbbbb&good&0.5&5", "start 0.5 and end 5"),
    ],
)
def test_broken_rows_are_left_out_by_name_and_keep_their_number(tmp_path, row, fault):
    good = "Church bell&aaaaaaaaaaa&good&0&10"
    base = write(tmp_path / "AVE_Dataset", [HEADER, row, good], train=[row, good])
    dataset = load_dataset("ave", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["1:aaaaaaaaaaa"]
    assert [clip.id for clip in dataset.clips] == ["aaaaaaaaaaa"]
    assert len(dataset.notes) == 2
    for note, place in zip(dataset.notes, ("Annotations.txt line 2", "trainSet.txt line 1"), strict=True):
        assert note.startswith(f"{base}/{place}: ")
        assert fault in note
        assert row in note


def test_rows_in_one_file_only_are_named(tmp_path):
    here, there = "Bark&aaaaaaaaaaa&good&0&5", "Bark&bbbbbbbbbbb&good&0&5"
    write(tmp_path / "AVE_Dataset", [HEADER, here], train=[there, here, here])
    dataset = load_dataset("ave", tmp_path)
    assert [sample.clip for sample in dataset.samples] == ["aaaaaaaaaaa"]
    assert [note.split(": ")[0].rpartition("/")[2] for note in dataset.notes] == [
        "trainSet.txt line 1",
        "trainSet.txt line 3",
    ]
    write(tmp_path / "other" / "AVE_Dataset", [HEADER, here, there], train=[here])
    (note,) = load_dataset("ave", tmp_path / "other").notes
    assert "row 1: in none of the Set files" in note


def test_missing_set_file_is_named(tmp_path):
    base = write(tmp_path / "AVE_Dataset", [HEADER, "Bark&aaaaaaaaaaa&good&0&5"])
    (base / "valSet.txt").unlink()
    with pytest.raises(UsageError, match=r"valSet\.txt is missing"):
        load_dataset("ave", tmp_path)
    (base / "valSet.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"valSet\.txt is no UTF-8 text"):
        load_dataset("ave", tmp_path)
