from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "annotations" / "ave"
GOLDEN = SHARED / "golden" / "ave" / "labels_and_splits.npz"
HEADER = "Category&VideoID&Quality&StartTime&EndTime"
BELL, BARK, BACKGROUND = 0, 2, 28
SPLITS = ("train", "val", "test")

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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Datasets of the real files, with a header and without one."""
    names = ("Annotations.txt", "Annotations.no_header.txt")
    base = tmp_path_factory.mktemp("ave")
    return [load_dataset("ave", copy_real(base / name / "AVE_Dataset", name).parent) for name in names]


@needs_real
@pytest.mark.parametrize("file", [0, 1])
def test_real_files_give_the_official_labels(real, file):
    dataset = real[file]
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
def test_real_oddities_are_named_and_nothing_else(real):
    dataset = real[0]
    assert {(finding.kind, finding.level) for finding in dataset.findings} == {
        ("empty-event", "note"),
        ("several-rows", "note"),
    }
    (empty,) = [finding for finding in dataset.findings if finding.kind == "empty-event"]
    assert empty.where.endswith("Annotations.txt line 28")
    assert empty.what == "event from 0 to 0, so all background"
    (sample,) = [s for s in dataset.samples if s.clip == "VWi2ENBuTbw"]
    assert (sample.id, set(sample.events), sample.split) == ("26:VWi2ENBuTbw", {BACKGROUND}, "train")
    several = [finding.what for finding in dataset.findings if finding.kind == "several-rows"]
    assert len(several) == 45
    (three,) = [what for what in several if what.count(" in line ") == 2]
    assert "0f_iTO5t3hU" in three


@needs_real
def test_real_counts(real):
    dataset = real[0]
    counts = manifest_of("ave")["counts"]
    assert {split: len(dataset.split(split)) for split in SPLITS} == counts["splits"]
    assert (len(dataset.samples), len(dataset.clips)) == (counts["samples"], counts["clips"]) == (4143, 4097)
    clips = {split: {sample.clip for sample in dataset.split(split)} for split in SPLITS}
    shared = [len(clips[one] & clips[two]) for one, two in (("train", "val"), ("train", "test"), ("val", "test"))]
    assert shared == [10, 8, 0]
    lengths = Counter(sum(event != BACKGROUND for event in sample.events) for sample in dataset.samples)
    assert (lengths[10], lengths[0], set(lengths) - {0}) == (2750, 1, set(range(2, 11)))
    background = [np.mean([np.equal(s.events, BACKGROUND) for s in dataset.split(split)]) for split in SPLITS]
    assert np.round(100 * np.array(background), 1).tolist() == [16.9, 18.2, 17.8]
    used = Counter(dataset.classes[sample.labels[0]] for sample in dataset.samples)
    assert (used["Cat"], used["Church bell"], used["Race car, auto racing"]) == (60, 188, 188)
    assert (min(used.values()), max(used.values()), len(used)) == (60, 188, 28)


@needs_real
def test_set_files_and_released_orders_agree(real):
    h5py = pytest.importorskip("h5py")
    dataset = real[1]
    for split in SPLITS:
        with h5py.File(REAL / f"{split}_order.h5") as file:
            order = file["order"][:].tolist()
        assert [int(sample.id.partition(":")[0]) for sample in dataset.split(split)] == order


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
    ("row", "kind", "fault"),
    [
        ("Bark&bbbbbbbbbbb&good&0", "broken-row", "4 fields instead of 5"),
        ("Barking&bbbbbbbbbbb&good&0&5", "unknown-class", "unknown category 'Barking'"),
        ("background&bbbbbbbbbbb&good&0&5", "unknown-class", "unknown category 'background'"),
        ("Bark&../../etc/x&good&0&5", "bad-id", "no video id"),
        ("Bark&bbbbbbbbbbb&good&5&2", "reversed-event", "start 5 and end 2"),
        ("Bark&bbbbbbbbbbb&good&0&11", "past-the-end", "start 0 and end 11"),
        ("Bark&bbbbbbbbbbb&good&-1&5", "broken-row", "start -1 and end 5"),
        ("Bark&bbbbbbbbbbb&good&0.5&5", "broken-row", "start 0.5 and end 5"),
    ],
)
def test_broken_rows_are_left_out_by_name_and_keep_their_number(tmp_path, row, kind, fault):
    good = "Church bell&aaaaaaaaaaa&good&0&10"
    base = write(tmp_path / "AVE_Dataset", [HEADER, row, good], train=[row, good])
    dataset = load_dataset("ave", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["1:aaaaaaaaaaa"]
    assert [clip.id for clip in dataset.clips] == ["aaaaaaaaaaa"]
    places = [f"{base}/{place}" for place in ("Annotations.txt line 2", "trainSet.txt line 1")]
    assert [(finding.kind, finding.where) for finding in dataset.findings] == [(kind, place) for place in places]
    assert all(fault in finding.what and row in finding.done for finding in dataset.findings)


@pytest.mark.parametrize("row", ["Barking&bbbbbbbbbbb&good&0&5", "Bark&b/bbb&good&0&5", "Bark&bbbbbbbbbbb&good&0"])
def test_a_row_that_is_broken_in_one_file_is_one_finding(tmp_path, row):
    good, other = "Bark&bbbbbbbbbbb&good&0&5", "Bark&aaaaaaaaaaa&good&0&5"
    write(tmp_path / "AVE_Dataset", [HEADER, row, other], train=[good, other])
    (finding,) = load_dataset("ave", tmp_path).findings
    assert finding.where.endswith("Annotations.txt line 2")
    write(tmp_path / "set" / "AVE_Dataset", [HEADER, good, other], train=[row, other])
    (finding,) = load_dataset("ave", tmp_path / "set").findings
    assert finding.where.endswith("trainSet.txt line 1")


def test_rows_in_one_file_only_are_named(tmp_path):
    here, there = "Bark&aaaaaaaaaaa&good&0&5", "Bark&bbbbbbbbbbb&good&0&5"
    write(tmp_path / "AVE_Dataset", [HEADER, here], train=[there, here], test=[here])
    dataset = load_dataset("ave", tmp_path)
    assert [sample.clip for sample in dataset.samples] == ["aaaaaaaaaaa"]
    assert {(finding.kind, finding.where.rpartition("/")[2]) for finding in dataset.findings} == {
        ("unmatched-row", "trainSet.txt line 1"),
        ("duplicate-row", "testSet.txt line 1"),
    }
    write(tmp_path / "other" / "AVE_Dataset", [HEADER, here, there, here], train=[here])
    twice, extra = load_dataset("ave", tmp_path / "other").findings
    assert (extra.kind, extra.what) == ("no-split", "row 1 is in none of the Set files")
    assert (twice.kind, twice.where.rpartition("/")[2]) == ("duplicate-row", "Annotations.txt line 4")


def test_a_row_that_differs_between_the_files_is_one_finding(tmp_path):
    write(tmp_path / "AVE_Dataset", ["Bark&aaaaaaaaaaa&good&0&5"], val=["Bark&aaaaaaaaaaa&good&0&6"])
    (finding,) = load_dataset("ave", tmp_path).findings
    assert finding.kind == "unmatched-row"
    assert "valSet.txt line 1" in finding.where
    assert "Annotations.txt line 1" in finding.what


def test_an_empty_set_file_is_one_finding(tmp_path):
    held_out = ["Cat&ccccccccccc&good&1&3", "Goat&ddddddddddd&good&4&9"]
    base = write(tmp_path / "AVE_Dataset", [*ROWS, *held_out], val=held_out[:1], test=held_out[1:])
    (finding,) = load_dataset("ave", tmp_path).findings
    assert (finding.kind, finding.where) == ("empty-table", str(base / "trainSet.txt"))
    assert "2 rows of Annotations.txt" in finding.what
    with pytest.raises(UsageError, match=r"Annotations\.txt has no row; fetch"):
        load_dataset("ave", write(tmp_path / "none" / "AVE_Dataset", [HEADER]).parent)


ROWS = ["Bark&aaaaaaaaaaa&good&2&5", "Church bell&bbbbbbbbbbb&good&0&10"]


@pytest.mark.parametrize(
    ("lines", "kind", "line"),
    [
        (["&" + HEADER, *ROWS], "wrong-header", 1),
        (["VideoID&Quality&StartTime&EndTime&Category", *ROWS], "wrong-header", 1),
        (["label&id&q&from&to", *ROWS], "wrong-header", 1),
        ([HEADER, HEADER, *ROWS], "doubled-header", 2),
        ([*ROWS, HEADER], "doubled-header", 3),
    ],
)
def test_a_header_at_fault_is_named_once_and_shifts_no_label(tmp_path, lines, kind, line):
    write(tmp_path / "AVE_Dataset", lines, train=ROWS)
    dataset = load_dataset("ave", tmp_path)
    (finding,) = dataset.findings
    assert (finding.kind, finding.level) == (kind, "fault")
    assert finding.where.endswith(f"Annotations.txt line {line}")
    assert [sample.id for sample in dataset.samples] == ["0:aaaaaaaaaaa", "1:bbbbbbbbbbb"]
    assert dataset.samples[0].events.count(BARK) == 3


TURNED = [
    "VideoID&Category&Quality&StartTime&EndTime",
    "aaaaaaaaaaa&Bark&good&2&5",
    "bbbbbbbbbbb&Church bell&good&0&10",
]


@pytest.mark.parametrize(("annotations", "train"), [(ROWS, [HEADER, *ROWS]), (TURNED, ROWS)])
def test_a_header_that_does_no_harm_is_a_note(tmp_path, annotations, train):
    write(tmp_path / "AVE_Dataset", annotations, train=train)
    dataset = load_dataset("ave", tmp_path)
    assert [(f.kind, f.level) for f in dataset.findings] == [("header", "note")]
    assert [sample.events.count(BARK) for sample in dataset.samples] == [3, 0]
    assert len(dataset.samples) == 2


def test_byte_order_mark_line_ends_and_blank_lines_do_no_harm(tmp_path):
    base = write(tmp_path / "AVE_Dataset", [], train=ROWS)
    (base / "Annotations.txt").write_bytes("\ufeff".encode() + "\r\n".join([HEADER, ROWS[0], "", ROWS[1], ""]).encode())
    dataset = load_dataset("ave", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["0:aaaaaaaaaaa", "1:bbbbbbbbbbb"]
    assert dataset.findings == ()


def test_one_fault_in_most_rows_is_told_once(tmp_path):
    rows = [f"Bark&{number:011}&good&0&5" for number in range(30)]
    write(tmp_path / "AVE_Dataset", [row.replace("Bark", f"Bark{i}") for i, row in enumerate(rows)] + ROWS, train=ROWS)
    (finding,) = load_dataset("ave", tmp_path).findings
    assert (finding.kind, finding.where) == ("unknown-class", str(tmp_path / "AVE_Dataset" / "Annotations.txt"))
    assert "30 of 32 rows" in finding.what
    assert "first lines 1, 2, 3, 4, 5" in finding.done


def test_a_file_cut_short_is_told_once_in_each_file_of_which_rows_are_left_over(tmp_path):
    rows = [f"Bark&{number:011}&good&0&5" for number in range(30)]
    base = write(tmp_path / "one" / "AVE_Dataset", ROWS + rows[:2], train=ROWS + rows)
    (finding,) = load_dataset("ave", base.parent).findings
    assert (finding.kind, finding.where) == ("unmatched-row", str(base / "trainSet.txt"))
    assert "28 of 32 rows" in finding.what
    base = write(tmp_path / "other" / "AVE_Dataset", ROWS + rows, train=ROWS, val=rows[:1], test=rows[1:2])
    (finding,) = load_dataset("ave", base.parent).findings
    assert (finding.kind, finding.where) == ("no-split", str(base / "Annotations.txt"))
    assert "28 of 32 rows" in finding.what


def test_a_file_of_something_else_is_refused(tmp_path):
    write(tmp_path / "AVE_Dataset", ["first,second", "third,fourth"])
    with pytest.raises(UsageError, match=r"Annotations\.txt has no row of the form Category&VideoID"):
        load_dataset("ave", tmp_path)


@pytest.mark.parametrize(
    ("pictures", "sound"),
    [("video_frames/{}/{:04}.jpg", "raw_audio/{}.wav"), ("frames/{}/{:08}.jpg", "wave/{}.npy")],
)
def test_pictures_and_sound_stand_in_for_videos(tmp_path, touch, pictures, sound):
    base = write(tmp_path / "AVE_Dataset", ROWS, train=ROWS)
    files = [base / pictures.format("aaaaaaaaaaa", number) for number in range(1, 31)]
    touch(*files, base / sound.format("aaaaaaaaaaa"), base / "AVE" / "bbbbbbbbbbb.mp4")
    first, second = load_dataset("ave", tmp_path).clips
    assert first.frames == tuple(files[3 * second + 1] for second in range(10))  # 3 a second, the middle one of each
    assert first.audio == base / sound.format("aaaaaaaaaaa")
    assert second.media() == (base / "AVE" / "bbbbbbbbbbb.mp4",)
    (base / "AVE" / "bbbbbbbbbbb.mp4").unlink()  # no video at all: then pictures and sound are what is missing
    second = load_dataset("ave", tmp_path).clips[1]
    assert second.frames == tuple(base / pictures.format("bbbbbbbbbbb", 3 * second + 2) for second in range(10))
    assert second.audio.stem == "bbbbbbbbbbb"
    touch(base / "AVE" / "aaaaaaaaaaa.mp4")  # its clock is right, so it comes first
    assert load_dataset("ave", tmp_path).clips[0].media() == (base / "AVE" / "aaaaaaaaaaa.mp4",)


def test_a_set_file_that_cannot_be_read_costs_its_split(tmp_path):
    base = write(tmp_path / "AVE_Dataset", ROWS, train=ROWS[:1])
    (base / "valSet.txt").unlink()
    dataset = load_dataset("ave", tmp_path)
    (finding,) = dataset.findings
    assert (finding.kind, finding.where, finding.level) == ("missing-table", str(base / "valSet.txt"), "fault")
    assert len(dataset.samples) == 1
    for split in ("train", "val", "test"):
        (base / f"{split}Set.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"trainSet\.txt is no UTF-8 text"):
        load_dataset("ave", tmp_path)
