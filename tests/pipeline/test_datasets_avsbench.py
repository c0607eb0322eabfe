from collections import defaultdict
from pathlib import Path

import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError

REAL = Path(__file__).parents[2].parent / "shared" / "annotations" / "avsbench" / "ms3_meta_data.csv"


@pytest.fixture
def write(tmp_path, write_table):
    """`write(rows)` writes the table and returns the folder of the subset's files."""

    def make(rows: list[str], header: str = "video_id,split") -> Path:
        write_table(tmp_path / "Multi-sources" / "ms3_meta_data.csv", header, rows)
        return tmp_path / "Multi-sources" / "ms3_data"

    return make


def splits_by_source(dataset) -> dict[str, set[str]]:
    """Splits of the clips that were cut from each recording."""
    found = defaultdict(set)
    sources = {clip.id: clip.source for clip in dataset.clips}
    for sample in dataset.samples:
        found[sources[sample.clip]].add(sample.split)
    return found


def frames(data: Path, name: str) -> tuple[Path, ...]:
    return tuple(data / "visual_frames" / name / f"{name}.mp4_{k}.png" for k in range(1, 6))


def masks(data: Path, name: str, split: str) -> tuple[Path, ...]:
    return tuple(data / "gt_masks" / split / name / f"{name}_{k}.png" for k in range(1, 6))


@pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")
def test_real_table(tmp_path, write):
    write(REAL.read_text().splitlines()[1:])
    dataset = load_dataset("avsbench-ms3", tmp_path)
    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [296, 64, 64]
    assert [sample.id for sample in dataset.samples[:2]] == ["ms3/jlhuZfcw61w", "ms3/xv7eM6-UmkY_36"]
    assert all(clip.segments == 5 for clip in dataset.clips)


def test_frames_and_wav_come_before_the_raw_video(tmp_path, write, touch):
    name = "-bcdefghijk_3"
    data = write([f"{name},val"])
    wav, video = data / "audio_wav" / "val" / f"{name}.wav", data / "raw_videos" / f"{name}.mp4"
    touch(*frames(data, name), *masks(data, name, "val"), wav, video)
    dataset = load_dataset("avsbench", tmp_path)
    (clip,), (sample,) = dataset.clips, dataset.samples
    assert clip.id == sample.clip == f"ms3/{name}"
    assert clip.media() == (*frames(data, name), wav)
    assert sample.masks == masks(data, name, "val")
    assert (sample.split, sample.subset, dataset.subsets) == ("val", "ms3", ("ms3",))
    assert dataset.timeline.frame_time(4) == 4.9375
    assert dataset.notes == ()


def test_raw_video_stands_in_for_missing_frames_and_wav(tmp_path, write, touch):
    data = write(["aaaaaaaaaaa,train"])
    video = data / "raw_videos" / "aaaaaaaaaaa.mp4"
    touch(*frames(data, "aaaaaaaaaaa")[:4], video, *masks(data, "aaaaaaaaaaa", "train"))
    dataset = load_dataset("avsbench", tmp_path)
    assert dataset.clips[0].media() == (video,)
    assert [note for note in dataset.notes if "1 of 1 clips lack some of their frame pictures" in note]


def test_clip_without_files_is_listed_with_what_should_be_there(tmp_path, write):
    data = write(["aaaaaaaaaaa,test"])
    dataset = load_dataset("avsbench", tmp_path)
    assert dataset.clips[0].media() == (*frames(data, "aaaaaaaaaaa"), data / "audio_wav" / "test" / "aaaaaaaaaaa.wav")
    assert dataset.samples[0].masks == (None,) * 5
    assert "5 of 5 masks are missing" in dataset.notes[0]


def test_both_names_give_the_same_clips(tmp_path, write):
    write(["aaaaaaaaaaa,train", "bbbbbbbbbbb_1,test"])
    both = [load_dataset(name, tmp_path) for name in ("avsbench", "avsbench-ms3")]
    assert both[0].clips == both[1].clips
    assert both[0].samples == both[1].samples
    assert load_dataset("avsbench", tmp_path / "Multi-sources").clips == both[0].clips


def test_every_subset_at_the_root_is_read(tmp_path, write):
    write(["aaaaaaaaaaa,train", "bbbbbbbbbbb,wrong"])
    ms3 = load_dataset("avsbench", tmp_path)
    (tmp_path / "Single-source").mkdir()
    (tmp_path / "Single-source" / "s4_meta_data.csv").write_text(
        "name,start,category,split\naaaaaaaaaaa,0,helicopter,test\n"
    )
    binary = load_dataset("avsbench", tmp_path)
    assert [clip.id for clip in binary.clips] == ["s4/aaaaaaaaaaa", "ms3/aaaaaaaaaaa"]
    assert binary.subsets == ("s4", "ms3")
    assert (binary.task, binary.classes) == (ms3.task, ms3.classes) == ("segmentation", ("sounding object",))
    assert [sample.id for sample in binary.split("test", "s4")] == ["s4/aaaaaaaaaaa"]
    assert any("ms3_meta_data.csv line 3" in note for note in binary.notes)
    (tmp_path / "metadata.csv").write_text(
        "vid,uid,s_min,s_sec,a_obj,split,label\nc,ccccccccccc_0_10000,0,0,dog,val,v2\n"
    )
    every = load_dataset("avsbench", tmp_path)
    assert every.subsets == ("s4", "ms3", "avss")
    assert (every.task, every.classes) == ("mixed", ())
    assert [clip.segments for clip in every.clips] == [5, 5, 10]
    for subset in ("s4", "ms3", "avss"):
        one = load_dataset(f"avsbench-{subset}", tmp_path)
        assert (one.name, one.subsets, one.timeline) == (f"avsbench-{subset}", (subset,), every.timeline)
        assert one.samples == tuple(sample for sample in every.samples if sample.subset == subset)
        assert one.clips == tuple(clip for clip in every.clips if clip.id.startswith(f"{subset}/"))


def test_no_subset_at_the_root_says_what_each_needs(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_dataset("avsbench", tmp_path)
    for table in ("Single-source/s4_meta_data.csv", "Multi-sources/ms3_meta_data.csv", "metadata.csv"):
        assert table in str(caught.value)
    with pytest.raises(UsageError, match="avpipe data make --dataset avsbench-s4"):
        load_dataset("avsbench-s4", tmp_path)


def test_broken_rows_are_named(tmp_path, write, assert_faults):
    rows = [
        "aaaaaaaaaaa,train",
        "bbbbbbbbbbb,training",
        "aaaaaaaaaaa,val",
        "../up,test",
        "ccccccccccc",
        "ddddddddddd,test",
    ]
    write(rows)
    dataset = load_dataset("avsbench", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["ms3/aaaaaaaaaaa", "ms3/ddddddddddd"]
    faults = {
        3: "unknown split 'training'",
        4: "'aaaaaaaaaaa' is in line 2 already, split train",
        5: "no clip name",
        6: "1 field instead of 2",
    }
    assert_faults(dataset, "ms3_meta_data.csv", faults)


def test_table_without_its_columns_is_refused(tmp_path, write):
    write(["aaaaaaaaaaa,0,train"], header="name,start,split")
    with pytest.raises(UsageError, match="no column video_id; its header is 'name,start,split'"):
        load_dataset("avsbench", tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")
def test_clips_of_one_recording_are_known_as_such(tmp_path, write):
    write(REAL.read_text().splitlines()[1:])
    dataset = load_dataset("avsbench-ms3", tmp_path)
    splits = splits_by_source(dataset)
    assert (len(splits), sum(len(of_source) > 1 for of_source in splits.values())) == (219, 56)
    sources = {clip.id: clip.source for clip in dataset.clips}
    assert (sources["ms3/jlhuZfcw61w"], sources["ms3/A7N2Japi3-A_4"]) == ("jlhuZfcw61w", "A7N2Japi3-A")
    manifest = manifest_of("avsbench-ms3")["counts"]
    assert (len(dataset.clips), 5 * len(dataset.samples)) == (manifest["clips"], manifest["masks"]) == (424, 2120)


def test_names_of_frames_without_mp4_inside_are_read(tmp_path, write, touch):
    data = write(["aaaaaaaaaaa,train"])
    plain = tuple(data / "visual_frames" / "aaaaaaaaaaa" / f"aaaaaaaaaaa_{k}.png" for k in range(1, 6))
    touch(*plain, *masks(data, "aaaaaaaaaaa", "train"))
    assert load_dataset("avsbench", tmp_path).clips[0].frames == plain


@pytest.mark.parametrize("table", ["ms3/ms3_meta_data.csv", "ms3_meta_data.csv", "Multi-sources/ms3_meta_data.csv"])
def test_flattened_folders(tmp_path, write_table, touch, table):
    write_table(tmp_path / table, "video_id,split", ["aaaaaaaaaaa_2,val"])
    flat = tmp_path / "ms3"
    frames = tuple(flat / "visual_frames" / f"aaaaaaaaaaa_2_{k}.png" for k in range(1, 6))
    drawn = tuple(flat / "gt_masks" / f"aaaaaaaaaaa_2_{k}.png" for k in range(1, 6))
    touch(*frames, *drawn, flat / "audio_wav" / "aaaaaaaaaaa_2.wav")
    dataset = load_dataset("avsbench", tmp_path)
    assert dataset.clips[0].media() == (*frames, flat / "audio_wav" / "aaaaaaaaaaa_2.wav")
    assert dataset.samples[0].masks == drawn
    assert dataset.findings == ()
