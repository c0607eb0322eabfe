from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avpipe.pipeline.datasets import load_dataset, manifest_of
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Event

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "annotations" / "llp"
GOLDEN = SHARED / "golden" / "llp"
WEAK, DENSE = "filename\tevent_labels", "filename\tonset\toffset\tevent_labels"
SPEECH, CAR, DOG = 0, 1, 3
FILES = {
    "AVVP_train.csv": [WEAK, "-aaaaaaaaa__20_30\tSpeech,Dog"],
    "AVVP_val_pd.csv": [WEAK, "bbbbbbbbbbb_131.8_141.8\tDog"],
    "AVVP_test_pd.csv": [WEAK, "ccccccccccc_0_10\tCar,Speech", "ddddddddddd_5_15\tSpeech"],
    "AVVP_eval_audio.csv": [
        DENSE,
        "ccccccccccc_0_10\t0\t4\tSpeech",
        "bbbbbbbbbbb_131.8_141.8\t2\t10\tDog",
        "ccccccccccc_0_10\t6\t9\tSpeech",
    ],
    "AVVP_eval_visual.csv": [DENSE, "ccccccccccc_0_10\t1\t10\tCar", "ddddddddddd_5_15\t0\t1\tSpeech"],
}
needs_real = pytest.mark.skipif(not REAL.exists(), reason="the real annotation files are not here")


def make(base: Path, **changed: list[str] | None) -> Path:
    """Tables in `base`, some with other lines (by their names without AVVP_ and .csv), or left out."""
    base.mkdir(parents=True, exist_ok=True)
    for name, lines in FILES.items():
        lines = changed.get(name.removeprefix("AVVP_").removesuffix(".csv"), lines)
        if lines is not None:
            (base / name).write_text("\n".join(lines) + "\n")
    return base


def told(dataset) -> list[tuple[str, str, str]]:
    return [(f.kind, f.level, f.where.rpartition("/")[2]) for f in dataset.findings]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    base = tmp_path_factory.mktemp("llp") / "data"
    base.mkdir()
    for name in FILES:
        (base / name).write_bytes((REAL / name).read_bytes())
    return load_dataset("llp", base.parent)


@pytest.fixture(scope="module")
def real_with_first_audio(tmp_path_factory):
    base = tmp_path_factory.mktemp("llp-first")
    for name in FILES:
        source = "AVVP_eval_audio.first_release.csv" if name == "AVVP_eval_audio.csv" else name
        (base / name).write_bytes((REAL / source).read_bytes())
    return load_dataset("llp", base)


@needs_real
@pytest.mark.parametrize("split", ["val", "test"])
def test_real_files_give_the_official_ground_truth(real, split):
    golden = np.load(GOLDEN / f"official_{split}.npz")
    shape = tuple(golden["gt_shape"])
    samples = real.split(split)
    for modality in ("audio", "visual"):
        ours = np.zeros(shape, np.uint8)
        for video, sample in enumerate(samples):
            for event in getattr(sample, f"{modality}_events"):
                ours[video, event.class_id, event.start : event.end] = 1
        theirs = np.unpackbits(golden[f"gt_{modality}"], count=int(np.prod(shape))).reshape(shape)
        assert np.array_equal(ours, theirs)


@needs_real
def test_real_counts(real):
    counts = manifest_of("llp")["counts"]
    assert {split: len(real.split(split)) for split in counts["splits"]} == counts["splits"]
    assert len(real.clips) == len({clip.source for clip in real.clips}) == counts["clips"] == 11_849
    for modality, splits in counts["events"].items():
        for split, count in splits.items():
            assert sum(len(getattr(sample, f"{modality}_events")) for sample in real.split(split)) == count
    assert max(len(sample.labels) for sample in real.split("train")) == 3
    assert max(len(sample.labels) for sample in real.split("test")) == 7
    assert sum(SPEECH in sample.labels for sample in real.split("train")) == 4_988
    assert [sum(not s.visual_events for s in real.split(split)) for split in ("val", "test")] == [70, 121]
    assert [sum(not s.audio_events for s in real.split(split)) for split in ("val", "test")] == [4, 5]
    assert sum(clip.source.startswith("-") for clip in real.clips) == 151
    assert sum("." in clip.id[11:] for clip in real.clips) == 5
    assert all(sample.audio_events is None is sample.visual_events for sample in real.split("train"))


@needs_real
def test_every_real_broken_row_is_named(real):
    names: dict[str, Counter] = {"audio": Counter(), "visual": Counter()}
    for finding in real.findings:
        if finding.kind == "unmatched-row":
            names["audio" if "audio" in finding.where else "visual"][finding.what.split("'")[1]] += 1
    assert {modality: (len(of), of.total()) for modality, of in names.items()} == {"audio": (8, 14), "visual": (7, 11)}
    listed = {"CSWQ_HzQ_10_20", "17iGUal2M_10_20", "VMTJRpjbE_150_160", "19jWnmYnlD8_30_400", "12eWNawPekw_30_40"}
    assert listed < set(names["audio"]) | set(names["visual"])
    by_kind = Counter(finding.kind for finding in real.findings)
    assert by_kind == {
        "unmatched-row": 25,
        "empty-event": 5,  # the sixth names no video
        "duplicate-row": 8,
        "joined-events": 24 + 3,  # and the 8 duplicates, which overlap as well
        "doubled-label": 1,
        "weak-differs": 30 + 51,
    }
    empty = [finding for finding in real.findings if finding.kind == "empty-event"]
    assert "event from 9 to 0 of 8DF2PxdT5tE_390_400" in [finding.what for finding in empty]
    (doubled,) = [finding for finding in real.findings if finding.kind == "doubled-label"]
    assert "LcFWKgFphXI_20_30" in doubled.what
    differing = Counter(f.where.split("AVVP_")[1].split("_")[0] for f in real.findings if f.kind == "weak-differs")
    assert differing == {"val": 30, "test": 51}
    assert {finding.level for finding in real.findings} == {"note"}  # the official copy is without a fault


@needs_real
def test_rows_of_the_first_audio_release_are_faults(real_with_first_audio):
    faults = [finding for finding in real_with_first_audio.findings if finding.level == "fault"]
    assert [finding.where.rpartition(" ")[2] for finding in faults] == ["930", "931", "2449"]
    assert all("first release" in finding.done for finding in faults)
    assert sum(len(sample.audio_events) for sample in real_with_first_audio.split("test")) == 2666 - 3


def test_labels_events_and_files(tmp_path):
    base = make(tmp_path / "data")
    dataset = load_dataset("llp", tmp_path)
    train, val, test, last = dataset.samples
    assert (train.id, train.clip, train.split, train.labels) == ("-aaaaaaaaa__20_30", train.id, "train", (SPEECH, DOG))
    assert (train.audio_events, train.visual_events) == (None, None)
    assert (val.audio_events, val.visual_events) == ((Event(DOG, 2, 10),), ())
    assert test.audio_events == (Event(SPEECH, 0, 4), Event(SPEECH, 6, 9))
    assert test.visual_events == (Event(CAR, 1, 10),)
    assert (last.audio_events, last.visual_events) == ((), (Event(SPEECH, 0, 1),))
    assert [clip.source for clip in dataset.clips][:2] == ["-aaaaaaaaa_", "bbbbbbbbbbb"]
    assert dataset.clips[0].media() == (base / "LLP_dataset" / "video" / "-aaaaaaaaa_.mp4",)
    assert (dataset.task, dataset.findings) == ("parsing", ())


@pytest.mark.parametrize("tables", ["data", ".", "AVVP-ECCV20/data"])
@pytest.mark.parametrize("media", ["data/LLP_dataset", "LLP_dataset", "."])
def test_places_of_tables_and_media(tmp_path, touch, tables, media):
    make(tmp_path / tables)
    video = tmp_path / media / "video" / "bbbbbbbbbbb.mp4"
    touch(video)
    clip = load_dataset("llp", tmp_path).clips[1]
    assert clip.media() == (video,)


@pytest.mark.parametrize(
    ("picture", "rate", "sound"), [("{:06}.jpg", 8, "audio/{}.wav"), ("{:08}.jpg", 1, "wave/{}.npy")]
)
def test_pictures_and_sound_stand_in_for_a_video(tmp_path, touch, picture, rate, sound):
    base = make(tmp_path / "data") / "LLP_dataset"
    pictures = [base / "frame" / "ccccccccccc" / picture.format(number) for number in range(1, 10 * rate + 1)]
    touch(*pictures, base / sound.format("ccccccccccc"), base / "frame" / "ddddddddddd" / "000001.jpg")
    dataset = load_dataset("llp", tmp_path)
    clip = dataset.clips[2]
    assert clip.frames == tuple(pictures[int((second + 0.5) * rate)] for second in range(10))
    assert clip.audio == base / sound.format("ccccccccccc")
    silent = dataset.clips[3]
    assert silent.audio.name == "ddddddddddd.wav"  # that is what is missing


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("ccccccccccc_0_10\t0\t11\tSpeech", "past-the-end"),
        ("ccccccccccc_0_10\t-1\t4\tSpeech", "broken-row"),
        ("ccccccccccc_0_10\t0.5\t4\tSpeech", "broken-row"),
        ("ccccccccccc_0_10\t0\tSpeech", "broken-row"),
        ("ccccccccccc_0_10\t0\t4\tSpech", "unknown-class"),
        ("zzzzzzzzzzz_0_10\t0\t4\tSpeech", "unmatched-row"),
    ],
)
def test_a_broken_dense_row_is_one_finding(tmp_path, row, kind):
    audio = FILES["AVVP_eval_audio.csv"]
    make(tmp_path, eval_audio=[DENSE, row, *audio[2:3]])  # "Speech" is heard in no other row
    dataset = load_dataset("llp", tmp_path)
    assert told(dataset) == [(kind, "fault", "AVVP_eval_audio.csv line 2")]
    assert dataset.split("test")[0].audio_events == ()


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("ccccccccccc_0_10\tCar,Spech", "unknown-class"),
        ("ccccccccccc_0_10", "broken-row"),
        ("ccccccccccc_0_10\t", "broken-row"),
        ("cccccc/cccc_0_10\tCar", "bad-id"),
        ("ccccccccccc\tCar", "bad-id"),
        ("bbbbbbbbbbb_131.8_141.8\tDog", "duplicate-id"),
        ("bbbbbbbbbbb_20_30\tDog", "duplicate-id"),
    ],
)
def test_a_broken_weak_row_is_one_finding(tmp_path, row, kind):
    test = FILES["AVVP_test_pd.csv"]
    others = {}
    if kind == "duplicate-id":  # then nothing says that the dense rows of ccccccccccc_0_10 are without fault
        others["eval_audio"] = [DENSE, FILES["AVVP_eval_audio.csv"][2]]
        others["eval_visual"] = [DENSE, FILES["AVVP_eval_visual.csv"][2]]
    make(tmp_path, test_pd=[WEAK, row, test[2]], **others)
    dataset = load_dataset("llp", tmp_path)
    assert told(dataset) == [(kind, "fault", "AVVP_test_pd.csv line 2")]
    assert [sample.id for sample in dataset.split("test")] == ["ddddddddddd_5_15"]


def test_odd_rows_are_notes_and_mark_what_the_official_protocol_marks(tmp_path):
    name = "ccccccccccc_0_10"
    rows = [(0, 3), (3, 5), (7, 7), (0, 3), (9, 8), (4, 6)]
    make(tmp_path, eval_audio=[DENSE, *(f"{name}\t{start}\t{end}\tSpeech" for start, end in rows)])
    dataset = load_dataset("llp", tmp_path)
    assert sorted(told(dataset)) == [
        ("duplicate-row", "note", "AVVP_eval_audio.csv line 5"),
        ("empty-event", "note", "AVVP_eval_audio.csv line 4"),
        ("joined-events", "note", "AVVP_eval_audio.csv line 3"),
        ("joined-events", "note", "AVVP_eval_audio.csv line 7"),
        ("no-events", "fault", "AVVP_val_pd.csv line 2"),
        ("reversed-event", "fault", "AVVP_eval_audio.csv line 6"),
    ]
    assert dataset.split("test")[0].audio_events == tuple(Event(SPEECH, start, end) for start, end in rows)


def test_headers_at_fault_are_named_once(tmp_path):
    for number, lines in enumerate((["label\tname", *FILES["AVVP_test_pd.csv"][1:]], FILES["AVVP_test_pd.csv"][1:])):
        base = make(tmp_path / str(number), test_pd=lines)
        dataset = load_dataset("llp", base)
        kind = ("wrong-header", "missing-header")[number]
        assert told(dataset) == [(kind, "fault", "AVVP_test_pd.csv line 1")]
        assert len(dataset.split("test")) == 2
    make(tmp_path, eval_audio=["onset\toffset\tevent_labels\tfilename", *FILES["AVVP_eval_audio.csv"][1:]])
    assert told(load_dataset("llp", tmp_path)) == [("wrong-header", "fault", "AVVP_eval_audio.csv line 1")]


def test_tables_that_are_missing_are_named(tmp_path):
    dataset = load_dataset("llp", make(tmp_path, train=None, eval_visual=None))
    assert {where for kind, _, where in told(dataset) if kind == "missing-table"} == {
        "AVVP_train.csv",
        "AVVP_eval_visual.csv",
    }
    assert len(dataset.findings) == 2
    assert dataset.split("test")[0].visual_events is None
    with pytest.raises(UsageError) as caught:
        load_dataset("llp", make(tmp_path / "empty", **dict.fromkeys(("train", "val_pd", "test_pd"))))
    assert "none of the annotation files (data/AVVP_train.csv" in str(caught.value)
    assert "data/LLP_dataset/video/<11-character id>.mp4" in str(caught.value)


def test_rows_of_a_split_that_is_not_there_are_told_at_once(tmp_path):
    dataset = load_dataset("llp", make(tmp_path, test_pd=[WEAK]))
    assert told(dataset) == [
        ("empty-table", "fault", "AVVP_test_pd.csv"),
        ("unmatched-row", "note", "AVVP_eval_audio.csv"),
        ("unmatched-row", "note", "AVVP_eval_visual.csv"),
    ]
    assert dataset.findings[1].what == "2 rows name no video, as there is no test split"


def test_a_table_of_something_else_costs_what_it_should_hold(tmp_path):
    other = ["a,b", "c,d"]
    dataset = load_dataset("llp", make(tmp_path, eval_audio=other, train=other))
    assert told(dataset) == [("unusable", "fault", "AVVP_train.csv"), ("unusable", "fault", "AVVP_eval_audio.csv")]
    assert dataset.findings[1].what.startswith("has no column filename, onset")
    assert dataset.split("test")[0].audio_events is None
    with pytest.raises(UsageError, match=r"AVVP_train\.csv has no column filename"):
        load_dataset("llp", make(tmp_path, train=other, val_pd=other, test_pd=other))


def test_rows_that_are_left_out_are_counted_where_they_belong(tmp_path):
    """A row of train has no dense labels, so what is wrong with it explains none; notes stand for no row."""
    base = make(tmp_path, train=[*FILES["AVVP_train.csv"], "abc\tDog"])
    before = load_dataset("llp", base)
    heard = base / "AVVP_eval_audio.csv"
    heard.write_text(heard.read_text() + "NOSUCHVIDEO_1_11\t7\t9\tDog\n12eWNawPekw_30_40\t0\t2\tDog\n")
    dataset = load_dataset("llp", base)
    assert ("unmatched-row", "fault") in {(f.kind, f.level) for f in dataset.findings if "NOSUCHVIDEO" in f.what}
    assert before.left_out["samples of train"] == dataset.left_out["samples of train"] == 1
    assert dataset.left_out["audio events"] == before.left_out["audio events"] + 1
    (base / "AVVP_train.csv").unlink()
    told_now = {(f.kind, f.level) for f in load_dataset("llp", base).findings if "NOSUCHVIDEO" in f.what}
    assert told_now == {("unmatched-row", "fault")}
