"""Scoring predictions on a user's own tables: clips of different lengths, parsing, questions; no media are there."""

import json

import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avs
from avpipe.stages.scoring import score

PARSING = """clip,media,split,segments,audio_events,visual_events
x1,a.mp4,test,3,dog@0-2;cat@1-3,dog@0-1
-y2,b.mp4,test,5,,cat@0-5
z3,c.mp4,test,4,dog@0-1,
"""
"""Classes are cat and dog."""
QUESTIONS = """clip,media,split,question,answer,type
x1,a.mp4,test,how many?,2,Audio/Counting
x1,a.mp4,test,what?,dog,Audio/Naming
-y2,b.mp4,test,where?,1,
"""


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores a table `mine.csv` of the given text."""
    monkeypatch.chdir(tmp_path)

    def run(table, predictions, **options):
        (tmp_path / "mine.csv").write_text(table)
        return score("mine.csv", tmp_path / predictions, **options)

    return run


def f(hits, false_alarms, misses):
    return 2 * hits / (2 * hits + false_alarms + misses)


def test_parsing(scored, tmp_path):
    rows = ("x1,audio,dog,0,2", "x1,Audio,cat,2,3", "x1,visual,1,0,1", "-y2,visual,cat,0,2", "z3,,,,")
    (tmp_path / "p.csv").write_text("\n".join(["id,modality,class,onset,offset", *rows]))
    found = scored(PARSING, "p.csv")
    audio = np.mean([np.mean([f(2, 0, 0), f(1, 0, 1)]), 1, 0])
    visual = np.mean([1, f(2, 0, 3), 1])
    both = np.mean([1, 1, 1])
    assert found["protocol"] == "llp-official"
    assert found["metrics"]["segment_audio"] == pytest.approx(audio)
    assert found["metrics"]["segment_visual"] == pytest.approx(visual)
    assert found["metrics"]["segment_type_av"] == pytest.approx((audio + visual + both) / 3)
    assert found["metrics"]["event_visual"] == pytest.approx(np.mean([1, 0, 1]))  # 2 of 5 segments are no match
    assert (found["samples"], found["unlabelled"]) == (3, 0)
    assert found["printed"][0] == f"Audio Event Detection Segment-level F1: {100 * audio:.1f}"
    maps = np.zeros((12, 2, 2), np.uint8)  # segments, modality, class: x1, -y2, z3
    maps[0:2, 0, 1], maps[2, 0, 0], maps[0, 1, 1], maps[3:5, 1, 0] = 1, 1, 1, 1
    np.savez(tmp_path / "p.npz", audio=maps[:, 0], visual=maps[:, 1])
    assert scored(PARSING, "p.npz")["metrics"] == found["metrics"]
    gate = np.full((3, 2), 0.5)
    np.savez(tmp_path / "p.npz", segment_probability=maps * 0.5, video_probability=gate)
    assert scored(PARSING, "p.npz")["metrics"] == found["metrics"]
    gate[0, 1] = 0.49  # no dog in the first video
    np.savez(tmp_path / "p.npz", segment_probability=maps * 0.5, video_probability=gate)
    gated = scored(PARSING, "p.npz")["metrics"]
    assert gated["segment_audio"] == pytest.approx(np.mean([np.mean([0, f(1, 0, 1)]), 1, 0]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x1,audio,dog,2,4", "line 2: 2 to 4 is no stretch within 0 to 3"),
        ("x1,audio,dog,2,2", "line 2: 2 to 2 is no stretch"),
        ("x1,audio,dog,0.5,2", "line 2: onset must be a whole number, not '0.5'"),
        ("x1,sound,dog,0,2", "line 2: unknown modality 'sound'"),
        ("x1,audio,dgo,0,2", "line 2: unknown class 'dgo': did you mean 'dog'"),
        ("x1,audio,,0,2", "line 2: unknown class ''"),
        ("x9,audio,dog,0,2", "line 2: mine.csv has no sample 'x9' in split test"),
        ("x1,audio,dog,0,2", "2 of 3 samples of split test have no prediction: -y2, z3;"),
    ],
)
def test_bad_rows_of_parsing(scored, tmp_path, row, message):
    (tmp_path / "p.csv").write_text("id,modality,class,onset,offset\n" + row + "\n")
    with pytest.raises(UsageError, match=message):
        scored(PARSING, "p.csv")


def test_bad_arrays_of_parsing(scored, tmp_path):
    good = {"segment_probability": np.zeros((12, 2, 2)), "video_probability": np.zeros((3, 2))}
    bad = {
        "holds values outside 0 to 1": {"video_probability": np.full((3, 2), 2.0)},
        "array 'segment_probability' has 3 modalities": {"segment_probability": np.zeros((12, 3, 2))},
        "array 'video_probability' has 3 classes, the dataset has 2": {"video_probability": np.zeros((3, 3))},
        "array 'video_probability' has 2 rows for 3 samples|holds 2 samples": {"video_probability": np.zeros((2, 2))},
        "has 11 segments": {"segment_probability": np.zeros((11, 2, 2))},
        "one row a sample is needed": {"video_probability": np.zeros(3)},
    }
    for message, change in bad.items():
        np.savez(tmp_path / "p.npz", **(good | change))
        with pytest.raises(UsageError, match=message):
            scored(PARSING, "p.npz")
    np.savez(tmp_path / "p.npz", audio=np.full((12, 2), 0.7), visual=np.zeros((12, 2)))
    with pytest.raises(UsageError, match="array 'audio' must hold 0 and 1"):
        scored(PARSING, "p.npz")
    weak = "clip,media,split,labels\nx1,a.mp4,test,dog\n"
    with pytest.raises(UsageError, match="in split test: none has dense events"):
        scored(weak, "p.npz")


def test_questions(scored, tmp_path):
    """Answers are 1, 2 and dog, in this order: an answer's text comes before an id."""
    forms = {
        "p.csv": "answer\n2\ncat\n1\n",
        "p.jsonl": '{"id": "2:-y2", "answer": 1}\n{"id": "0:x1", "answer": "2"}\n{"id": "1:x1", "answer": "cat"}\n',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        found = scored(QUESTIONS, name)
        assert (found["protocol"], found["metrics"]["correct"], found["metrics"]["total"]) == ("avqa-accuracy", 2, 3)
        assert found["metrics"]["types"]["Audio/Counting"]["accuracy"] == 1
        assert (found["unknown_answers"], found["unknown_answers_first"]) == (1, ["cat"])
    arrays = {
        "texts": {"predicted": np.array(["2", "cat", "1"])},
        "bytes": {"predicted": np.array([b"2", b"cat", b"1"])},
        "ids": {"predicted": np.array([1, 0, 0])},
        "both": {"predicted": np.array([1, 0, 0]), "scores": np.array([[0, 2, 1], [1, 1, 1], [3, 0, 0]])},
        "scores": {"scores": np.array([[0, 2, 1], [1, 1, 1], [3, 0, 0]])},
    }
    for what, one in arrays.items():
        np.savez(tmp_path / "p.npz", **one)
        assert scored(QUESTIONS, "p.npz")["metrics"]["correct"] == 2, what
    np.savez(tmp_path / "p.npz", **(arrays["both"] | {"predicted": np.array([1, 0, 2])}))
    with pytest.raises(UsageError, match="sample '2:-y2': 'scores' and 'predicted' disagree"):
        scored(QUESTIONS, "p.npz")
    np.savez(tmp_path / "p.npz", predicted=np.array([1, 3, 0]))
    with pytest.raises(UsageError, match="sample '1:x1': array 'predicted' holds class 3, ids go from 0 to 2"):
        scored(QUESTIONS, "p.npz")
    (tmp_path / "p.csv").write_text("answer\n2\n1\n")
    with pytest.raises(UsageError, match="holds 2 samples without names, split test has 3"):
        scored(QUESTIONS, "p.csv")
    (tmp_path / "p.csv").write_text("id,answer\nx1,2\n")
    with pytest.raises(UsageError, match="line 2: 'x1' may be any of 2 samples: write one of the ids '0:x1', '1:x1'"):
        scored(QUESTIONS, "p.csv")
    (tmp_path / "p.csv").write_text("id,answer\n0:x1,2\n0:x1,2\n")
    with pytest.raises(UsageError, match="line 3: sample '0:x1' is predicted twice"):
        scored(QUESTIONS, "p.csv")
    (tmp_path / "p.csv").write_text("id,answer\n0:x1,2\n")
    blank = scored(QUESTIONS, "p.csv", missing="blank")
    assert (blank["missing_samples"], blank["metrics"]["correct"]) == (["1:x1", "2:-y2"], 1)


def test_events_of_different_lengths(scored, tmp_path):
    table = "clip,media,split,segments,events\nx1,a.mp4,test,3,dog@0-2\n-y2,b.mp4,test,5,cat@4-5\n"
    scores = np.eye(3)[[1, 1, 2, 2, 2, 2, 2, 0]]  # cat, dog, background: all right
    scores[0] = [1, 0, 0]
    padded = np.zeros((2, 6, 3))
    padded[0, :3], padded[1, :5] = scores[:3], scores[3:]
    for arrays in ({"scores": scores}, {"scores": padded}, {"scores": padded[::-1], "ids": np.array(["-y2", "x1"])}):
        np.savez(tmp_path / "p.npz", **arrays)
        found = scored(table, "p.npz", task="events")
        assert (found["metrics"]["correct"], found["metrics"]["segments"]) == (7, 8)
    np.savez(tmp_path / "p.npz", scores=padded, segments=np.array([3, 4]))
    with pytest.raises(UsageError, match="sample '-y2' has 4 predicted segments, 5 are needed"):
        scored(table, "p.npz")


def test_faults_of_the_annotations_are_told(scored, tmp_path):
    np.savez(tmp_path / "p.npz", predicted=np.zeros(3, int))
    found = scored("clip,media,split,segments,events\nx1,a.mp4,test,3,dog@0-2\nx2,b.mp4,tset,3,dog@0-2\n", "p.npz")
    assert [("line 3" in fault, "tset" in fault) for fault in found["annotation_faults"]] == [(True, True)]


def test_masks_of_different_lengths_and_sizes(scored, tmp_path):
    rng, rows, videos = np.random.default_rng(0), ["clip,media,split,segments,masks"], []
    for name, frames, size in (("a", 2, (8, 6)), ("-b", 3, (4, 4))):
        rows.append(f"{name},{name}.mp4,test,{frames},masks/{name}")
        truth, guess = rng.random((frames, *size)) < 0.4, rng.integers(2, 256, (frames, *size)).astype(np.uint8)
        for folder, pictures in (("masks", truth), ("p", guess)):
            (tmp_path / folder / name).mkdir(parents=True)
            for number, picture in enumerate(pictures, 1):
                Image.fromarray(picture * np.uint8(255) if folder == "masks" else picture).save(
                    tmp_path / folder / name / f"{number}.png"
                )
        videos.append(avs.frame_scores(guess / np.float32(255), truth))
    table = "\n".join(rows) + "\n"
    found = scored(table, "p")
    expected = avs.score(videos)
    assert found["metrics"] == {key: value for key, value in expected.items() if key != "protocol"}
    assert found["mask_size"] is None
    json.dumps(found)
    (tmp_path / "p" / "-b" / "4.png").write_bytes((tmp_path / "p" / "-b" / "3.png").read_bytes())
    with pytest.raises(
        UsageError, match=r"no segment of split test belongs to -b/4\.png; names may look like a/1\.png"
    ):
        scored(table, "p")
