import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError

REAL = Path(__file__).parents[2].parent / "shared" / "annotations" / "avsbench"
HEADER = "vid,uid,s_min,s_sec,a_obj,split,label"


@pytest.fixture
def write(tmp_path, write_table):
    """`write(rows)` writes the table and returns the dataset's folder."""

    def make(rows: list[str]) -> Path:
        write_table(tmp_path / "metadata.csv", HEADER, rows)
        return tmp_path

    return make


@pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")
def test_real_table(tmp_path, write):
    write((REAL / "metadata.csv").read_text().splitlines()[1:])
    dataset, counts = load_dataset("avsbench-avss", tmp_path), manifest_of("avsbench-avss")["counts"]
    assert {name: len(dataset.split(name)) for name in ("train", "val", "test")} == counts["splits"]
    assert counts["splits"] == {"train": 8498, "val": 1304, "test": 1554}
    assert len(dataset.clips) == counts["clips"] == 11356
    assert Counter(clip.audio.parent.parent.name for clip in dataset.clips) == counts["parts"]
    assert Counter(clip.segments for clip in dataset.clips) == {10: 6000, 5: 5356}
    assert sum(clip.id.startswith("avss/-") for clip in dataset.clips) == 459
    expected = counts["masks"]
    assert expected == 3452 + 5 * (740 + 740 + 424) + 10 * 6000
    missing, objects = dataset.findings
    assert missing.what.startswith(f"{expected} of {expected} masks are missing: ")
    assert (objects.kind, objects.level) == ("odd-objects", "note")
    assert "'off-the-screen' in 27, 'background' in 5, 'h orse' in 1 rows" in objects.what
    splits, parts = defaultdict(set), defaultdict(set)
    clips = {clip.id: clip for clip in dataset.clips}
    for sample in dataset.samples:
        clip = clips[sample.clip]
        splits[clip.source].add(sample.split)
        parts[clip.source].add(clip.audio.parent.parent.name)
    crossing = [source for source, of_source in splits.items() if len(of_source) > 1]
    assert (len(splits), len(crossing)) == (7781, 81)
    assert Counter(tuple(sorted(parts[source])) for source in crossing) == {
        ("v1m",): 48,
        ("v1s", "v2"): 22,
        ("v1m", "v2"): 11,
    }


@pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")
def test_class_ids_are_the_official_numbers_less_one():
    numbers = json.loads((REAL / "label2idx.json").read_text())
    assert {name: number - 1 for name, number in numbers.items()} == {
        name: number for number, name in enumerate(manifest_of("avsbench-avss")["classes"])
    }


def test_classes_are_background_and_then_by_name(write):
    classes = load_dataset("avsbench-avss", write([])).classes
    assert len(classes) == 71
    assert classes[0] == "background"
    assert list(classes[1:]) == sorted(classes[1:])
    assert [classes[i] for i in (14, 41, 45, 70)] == ["clarinet", "man", "mower", "woman"]  # seen on real masks


def test_frames_and_masks_count_from_0_and_v2_has_ten(tmp_path, write, touch):
    uids = {"v1m": "-bcdefghijk_3", "v2": "-bcdefghijk_4000_14000"}
    write([f"-bcdefghijk,{uid},0,4,dog_violin,test,{part}" for part, uid in uids.items()])
    for part, count in (("v1m", 5), ("v2", 10)):
        folder = tmp_path / part / uids[part]
        touch(folder / "audio.wav")
        for number in range(count):
            touch(folder / "frames" / f"{number}.jpg", folder / "labels_semantic" / f"{number}.png")
    dataset = load_dataset("avsbench-avss", tmp_path)
    assert dataset.notes == ()
    assert (dataset.task, dataset.subsets) == ("semantic", ("avss",))
    for clip, sample, (part, uid), count in zip(dataset.clips, dataset.samples, uids.items(), (5, 10), strict=True):
        folder = tmp_path / part / uid
        assert clip.id == sample.clip == f"avss/{uid}"
        assert clip.segments == count
        assert clip.media() == (*(folder / "frames" / f"{k}.jpg" for k in range(count)), folder / "audio.wav")
        assert sample.masks == tuple(folder / "labels_semantic" / f"{k}.png" for k in range(count))


def test_training_of_v1s_has_the_first_mask_alone(tmp_path, write, touch):
    rows = [("one", "train", "v1s"), ("two", "val", "v1s"), ("three", "train", "v1m"), ("four", "train", "v2")]
    write([f"{uid},{uid},0,0,dog,{split},{part}" for uid, split, part in rows])
    for uid, _, part in rows:
        touch(*(tmp_path / part / uid / "labels_semantic" / f"{k}.png" for k in range(10 if part == "v2" else 5)))
    (tmp_path / "v2" / "four" / "labels_semantic" / "7.png").unlink()
    dataset = load_dataset("avsbench-avss", tmp_path)
    held = {sample.id: [k for k, mask in enumerate(sample.masks) if mask] for sample in dataset.samples}
    assert held == {
        "avss/one": [0],
        "avss/two": [0, 1, 2, 3, 4],
        "avss/three": [0, 1, 2, 3, 4],
        "avss/four": [0, 1, 2, 3, 4, 5, 6, 8, 9],
    }
    assert [finding.what for finding in dataset.findings] == [
        "1 of 21 masks are missing: v2/four/labels_semantic/7.png"
    ]


def test_broken_rows_are_named(write, assert_faults):
    good = "a,aaaaaaaaaaa_0_5000,0,0,dog,train,v1s"
    rows = [good, good, "b,b_0_5000,0,0,dog,training,v1s", "c,c/d,0,0,dog,val,v2", "d,d_0_5000,0,0,dog,val,v3", "e,e"]
    dataset = load_dataset("avsbench-avss", write(rows))
    assert [sample.id for sample in dataset.samples] == ["avss/aaaaaaaaaaa_0_5000"]
    faults = {
        3: "'aaaaaaaaaaa_0_5000' is in line 2 already, split train",
        4: "unknown split 'training'",
        5: "'c/d' is no clip name",
        6: "unknown label 'v3'",
        7: "2 fields instead of 7",
    }
    assert_faults(dataset, "metadata.csv", faults)


def test_an_unrelated_metadata_csv_is_not_avss(tmp_path, write_table):
    write_table(tmp_path / "metadata.csv", "file,checksum", ["readme.txt,1234"])
    for name in ("avsbench-avss", "avsbench"):
        with pytest.raises(UsageError, match=r"metadata\.csv, but of something else"):
            load_dataset(name, tmp_path)
    write_table(tmp_path / "Multi-sources" / "ms3_meta_data.csv", "video_id,split", ["aaaaaaaaaaa,train"])
    assert load_dataset("avsbench", tmp_path).subsets == ("ms3",)
    (tmp_path / "metadata.csv").write_bytes(bytes(range(256)) * 9000)
    assert load_dataset("avsbench", tmp_path).subsets == ("ms3",)
    (tmp_path / "v2").mkdir()  # with a part of AVSS beside it, its own table is broken
    with pytest.raises(UsageError, match=r"metadata\.csv"):
        load_dataset("avsbench", tmp_path)


def test_colour_masks_stand_in_for_those_of_ids(tmp_path, write, touch):
    write(["a,aaaaaaaaaaa_0_5000,0,0,dog,test,v1s", "b,bbbbbbbbbbb_0_5000,0,0,dog,test,v1s"])
    both = [tmp_path / "v1s" / "aaaaaaaaaaa_0_5000" / kind for kind in ("labels_rgb", "labels_semantic")]
    colours = tmp_path / "v1s" / "bbbbbbbbbbb_0_5000" / "labels_rgb"
    touch(*(folder / f"{k}.png" for folder in (*both, colours) for k in range(5)))
    one, two = load_dataset("avsbench-avss", tmp_path).samples
    assert [mask.parent for mask in one.masks] == [both[1]] * 5
    assert [mask.parent for mask in two.masks] == [colours] * 5


def test_a_list_of_classes_that_is_not_the_official_one_is_a_fault(tmp_path, write):
    write(["a,aaaaaaaaaaa_0_5000,0,0,dog,test,v1s"])
    classes = load_dataset("avsbench-avss", tmp_path).classes
    numbers = {name: number for number, name in enumerate(classes, start=1)}

    def findings(content: str) -> list[str]:
        (tmp_path / "label2idx.json").write_text(content)
        return [str(f) for f in load_dataset("avsbench-avss", tmp_path).findings if f.kind == "class-list"]

    assert findings(json.dumps(numbers)) == []
    (shifted,) = findings(json.dumps({name: number - 1 for name, number in numbers.items()}))
    assert "71 entries differ" in shifted
    assert "background: 0, expected 1" in shifted
    (renamed,) = findings(json.dumps({**numbers, "mower": None, "lawn-mower": 46}))
    assert "mower: None, expected 46; 'lawn-mower' is no class" in renamed
    for broken in ("{", "[]"):
        assert len(findings(broken)) == 1
