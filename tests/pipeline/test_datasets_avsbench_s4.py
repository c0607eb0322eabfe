from collections import Counter
from pathlib import Path

import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError

REAL = Path(__file__).parents[2].parent / "shared" / "annotations" / "avsbench" / "s4_meta_data.csv"


@pytest.fixture
def write(tmp_path, write_table):
    """`write(rows)` writes the table and returns the folder of the subset's files."""

    def make(rows: list[str], header: str = "name,start,category,split") -> Path:
        write_table(tmp_path / "Single-source" / "s4_meta_data.csv", header, rows)
        return tmp_path / "Single-source" / "s4_data"

    return make


def numbered(folder: Path, name: str) -> tuple[Path, ...]:
    return tuple(folder / name / f"{name}_{k}.png" for k in range(1, 6))


@pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")
def test_real_table(tmp_path, write):
    write(REAL.read_text().splitlines()[1:])
    dataset, counts = load_dataset("avsbench-s4", tmp_path), manifest_of("avsbench-s4")["counts"]
    assert {name: len(dataset.split(name)) for name in ("train", "val", "test")} == counts["splits"]
    assert counts["splits"] == {"train": 3452, "val": 740, "test": 740}
    assert len(dataset.clips) == counts["clips"] == 4932
    assert [sample.id for sample in dataset.samples[:2]] == ["s4/-_wznbUu3DY", "s4/0d9u2CymIxc"]
    assert sum(clip.id.startswith("s4/-") for clip in dataset.clips) == 247
    used = Counter(clip.audio.parent.name for clip in dataset.clips)
    assert set(used) == set(manifest_of("avsbench-s4")["categories"])
    assert (used["helicopter"], used["coyote_howling"]) == (311, 62)
    expected = 1 * 3452 + 5 * 740 + 5 * 740
    (finding,) = dataset.findings
    assert (finding.kind, finding.where) == ("missing-masks", str(tmp_path / "Single-source"))
    assert finding.what.startswith(f"{expected} of {expected} masks are missing: ")
    assert counts["masks"] == expected


def test_files_lie_by_split_and_category(tmp_path, write, touch):
    name, place = "-bcdefghijk", Path("val", "horse_clip-clop")
    data = write([f"{name},6,horse_clip-clop,val"])
    frames, masks = numbered(data / "visual_frames" / place, name), numbered(data / "gt_masks" / place, name)
    wav, video = data / "audio_wav" / place / f"{name}.wav", data / "raw_videos" / place / f"{name}.mp4"
    touch(*frames, *masks, wav, video)
    dataset = load_dataset("avsbench-s4", tmp_path)
    (clip,), (sample,) = dataset.clips, dataset.samples
    assert clip.id == sample.id == sample.clip == f"s4/{name}"
    assert clip.media() == (*frames, wav)
    assert (sample.split, sample.subset, sample.masks) == ("val", "s4", masks)
    assert (dataset.task, dataset.classes) == ("segmentation", ("sounding object",))
    assert dataset.notes == ()
    assert load_dataset("avsbench-s4", tmp_path / "Single-source").clips == dataset.clips
    frames[2].unlink()
    wav.unlink()
    assert load_dataset("avsbench-s4", tmp_path).clips[0].media() == (video,)


def test_training_has_the_first_mask_alone_and_that_is_no_fault(tmp_path, write, touch):
    data = write(["aaaaaaaaaaa,0,helicopter,train", "bbbbbbbbbbb,0,helicopter,test"])
    of = {
        name: numbered(data / "gt_masks" / split / "helicopter", name)
        for name, split in (("aaaaaaaaaaa", "train"), ("bbbbbbbbbbb", "test"))
    }
    touch(of["aaaaaaaaaaa"][0], *of["bbbbbbbbbbb"])
    dataset = load_dataset("avsbench-s4", tmp_path)
    first_only = (of["aaaaaaaaaaa"][0], None, None, None, None)
    assert [sample.masks for sample in dataset.samples] == [first_only, of["bbbbbbbbbbb"]]
    assert not [note for note in dataset.notes if "masks" in note]
    touch(of["aaaaaaaaaaa"][3])  # from elsewhere: the official training never sees it
    assert load_dataset("avsbench-s4", tmp_path).samples[0].masks == first_only
    of["aaaaaaaaaaa"][0].unlink()
    of["bbbbbbbbbbb"][4].unlink()
    dataset = load_dataset("avsbench-s4", tmp_path)
    assert dataset.samples[0].masks == (None,) * 5
    assert any("2 of 6 masks are missing" in note for note in dataset.notes)


def test_broken_rows_are_named(tmp_path, write, assert_faults):
    rows = [
        "aaaaaaaaaaa,0,helicopter,train",
        "bbbbbbbbbbb,0,helicopter,training",
        "aaaaaaaaaaa,0,helicopter,val",
        "../up,0,helicopter,test",
        "ccccccccccc,0,helicopter",
        "ddddddddddd,0,../../up,test",
        "eeeeeeeeeee,0,helicopter,test",
    ]
    write(rows)
    dataset = load_dataset("avsbench-s4", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["s4/aaaaaaaaaaa", "s4/eeeeeeeeeee"]
    faults = {
        3: "unknown split 'training'",
        4: "'aaaaaaaaaaa' is in line 2 already, split train",
        5: "no clip name",
        6: "3 fields instead of 4",
        7: "unknown category '../../up'",
    }
    assert_faults(dataset, "s4_meta_data.csv", faults)


def test_table_without_its_columns_is_refused(tmp_path, write):
    write(["aaaaaaaaaaa,train"], header="video_id,split")
    with pytest.raises(UsageError, match="no column name, category; its header is 'video_id,split'"):
        load_dataset("avsbench-s4", tmp_path)


ROWS = ("aaaaaaaaaaa,0,helicopter,train", "bbbbbbbbbbb,0,race_car,test")


@pytest.mark.parametrize(
    ("lines", "kind", "line"),
    [
        ((",name,start,category,split", *ROWS), "wrong-header", 1),
        (("name,start,category", *ROWS), "wrong-header", 1),
        (("start,category,split,name", *ROWS), "wrong-header", 1),
        (("name,name,category,split", *ROWS), "wrong-header", 1),
        (ROWS, "missing-header", 1),
        (("name,start,category,split", "name,start,category,split", *ROWS), "doubled-header", 2),
        (("name,start,category,split", *ROWS, "name,start,category,split"), "doubled-header", 4),
    ],
)
def test_a_header_at_fault_is_named_once_and_rows_are_read(tmp_path, write, lines, kind, line):
    write(list(lines[1:]), header=lines[0])
    dataset = load_dataset("avsbench-s4", tmp_path)
    finding, masks = dataset.findings
    assert (finding.kind, finding.level, masks.kind) == (kind, "fault", "missing-masks")
    assert finding.where.endswith(f"s4_meta_data.csv line {line}")
    assert [(sample.id, sample.split) for sample in dataset.samples] == [
        ("s4/aaaaaaaaaaa", "train"),
        ("s4/bbbbbbbbbbb", "test"),
    ]


def test_columns_in_another_order_are_fine(tmp_path, write):
    write(["train,helicopter,aaaaaaaaaaa", ""], header="\ufeffsplit,category,name")
    dataset = load_dataset("avsbench-s4", tmp_path)
    told = {(finding.kind, finding.level) for finding in dataset.findings}
    assert ("header", "note") in told
    assert {kind for kind, level in told if level == "fault"} == {"missing-masks"}
    assert dataset.samples[0].id == "s4/aaaaaaaaaaa"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (['"bbb', 'bbbbbbbb",0,helicopter,test'], "a line break within quotes"),
        (['"bbbbbbbbbbb,0,helicopter,test'], "quotes that do not match"),
        (['bbbbbbbbbbb,0,"helicopter" ,test'], "quotes that do not match"),
    ],
)
def test_bad_quotes_cost_their_own_row_only(tmp_path, write, assert_faults, rows, fault):
    after = "ccccccccccc,0,helicopters,test"
    write([ROWS[0], *rows, after, ROWS[1].replace("bbbbbbbbbbb", "ddddddddddd")])
    dataset = load_dataset("avsbench-s4", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["s4/aaaaaaaaaaa", "s4/ddddddddddd"]
    assert_faults(dataset, "s4_meta_data.csv", {3: fault, 3 + len(rows): "unknown category 'helicopters'"})
    assert len(dataset.findings) == 3  # and missing masks


def test_flattened_folders(tmp_path, write_table, touch):
    write_table(tmp_path / "s4" / "s4_meta_data.csv", "name,start,category,split", ["-bcdefghijk,0,helicopter,test"])
    flat = tmp_path / "s4"
    frames = tuple(flat / "visual_frames" / f"-bcdefghijk_{k}.png" for k in range(1, 6))
    masks = tuple(flat / "gt_masks" / f"-bcdefghijk_{k}.png" for k in range(1, 6))
    touch(*frames, *masks, flat / "audio_wav" / "-bcdefghijk.wav")
    dataset = load_dataset("avsbench-s4", tmp_path)
    assert dataset.clips[0].media() == (*frames, flat / "audio_wav" / "-bcdefghijk.wav")
    assert (dataset.samples[0].masks, dataset.findings) == (masks, ())
