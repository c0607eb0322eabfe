"""Scoring anybody's predictions of events: every format gives the same number, and what does not fit is named."""

import json
import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.stages.scoring import score

BACKGROUND = 28


@pytest.fixture
def truth(toy_events):
    samples = load_dataset("ave", toy_events.root).split("test")
    return [sample.id for sample in samples], np.array([sample.events for sample in samples])


@pytest.fixture
def guess(truth):
    """Scores `[8, 10, 29]` with ties, right in a part of the segments, and the accuracy by hand."""
    _, labels = truth
    rng = np.random.default_rng(3)
    scores = rng.integers(-2, 3, (8, 10, 29)).astype(np.float32)
    right = rng.random((8, 10)) < 0.5
    scores[right] = -3
    scores[right, labels[right]] = 3
    best = [[max(range(29), key=lambda c: (one[c], -c)) for one in sample] for sample in scores.tolist()]
    return scores, float(np.mean(np.array(best) == labels))


@pytest.fixture
def scored(toy_events, tmp_path):
    def run(name="p.npz", /, *, options=None, **arrays):
        if arrays:
            np.savez(tmp_path / name, **arrays)
        return score("ave", tmp_path / name, root=toy_events.root, **(options or {}))

    return run


def test_layouts_of_an_npz_score_the_same(scored, truth, guess, tmp_path):
    ids, _ = truth
    scores, accuracy = guess
    order = np.random.default_rng(0).permutation(8)
    shuffled, names = scores[order], np.array(ids)[order]
    bare = np.array([name.split(":")[-1] for name in names])  # clips, where each has one sample
    padded = np.concatenate([scores, np.full((8, 2, 29), 9, np.float32)], axis=1)
    forms = {
        "in official order, padded": {"scores": scores},
        "in official order, flat": {"scores": scores.reshape(80, 29)},
        "with ids": {"scores": shuffled, "ids": names},
        "with ids and segments": {"scores": shuffled.reshape(80, 29), "ids": names, "segments": np.full(8, 10)},
        "with ids in bytes": {"scores": shuffled, "ids": names.astype("S")},
        "with ids of clips": {"scores": shuffled, "ids": bare},
        "room for more segments": {"scores": padded, "segments": np.full(8, 10)},
        "room for more, no segments": {"scores": padded},
        "decided": {"predicted": scores.argmax(-1)},
        "decided, flat, small": {"predicted": scores.argmax(-1).ravel().astype(np.uint8)},
        "decided, as floats": {"predicted": scores.argmax(-1).astype(np.float64)},
        "big-endian": {"scores": scores.astype(">f4")},
        "whole numbers": {"scores": scores.astype(np.int8)},
        "Fortran order": {"scores": np.asfortranarray(scores)},
    }
    for name, arrays in forms.items():
        found = scored(**arrays)
        assert found["metrics"]["accuracy"] == pytest.approx(accuracy, abs=1e-12), name
        assert (found["protocol"], found["samples"], found["missing"]) == ("ave-segment-accuracy", 8, 0)
    np.savez_compressed(tmp_path / "small.npz", scores=scores)
    assert scored("small.npz")["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert 0.3 < accuracy < 0.9


def test_two_heads(scored, truth):
    _, labels = truth
    event = np.where(labels == BACKGROUND, -1, 1)
    event[0, 3:6] = 0  # a sigmoid of one half is no event
    kind = np.eye(28)[np.minimum(labels.min(axis=1), 27)]
    found = scored(event_logit=event, class_logit=kind)
    wrong = int((labels[0, 3:6] != BACKGROUND).sum())
    assert 0 < wrong == 80 - found["metrics"]["correct"]
    assert found["protocol"] == "ave-two-head"
    assert set(found["other_protocols"]) == {"ave-two-head-batch16"}
    named = scored(options={"protocol": "ave-two-head-batch3"})
    shares = [(30 - wrong) / 30, 1, 1]  # batches of 3, 3 and 2 videos
    assert named["metrics"]["accuracy"] == pytest.approx(np.mean(shares))
    assert set(named["other_protocols"]) == {"ave-two-head", "ave-two-head-batch16"}


def rows_of(truth, guess):
    ids, _ = truth
    found = guess[0].argmax(-1)
    return [(name, t, int(found[i, t])) for i, name in enumerate(ids) for t in range(10)]


def test_tables(scored, truth, guess, toy_events, tmp_path):
    names = load_dataset("ave", toy_events.root).classes
    rows = rows_of(truth, guess)[::-1]
    csv = ["id,segment,predicted", *(f'{a},{b},"{names[c] if b % 2 else c}"' for a, b, c in rows)]
    (tmp_path / "p.csv").write_text("\ufeff" + "\r\n".join(csv) + "\r\n", newline="")
    (tmp_path / "p.tsv").write_text("\n".join(line.replace('"', "").replace(",", "\t", 2) for line in csv))
    dicts = [{"id": a, "segment": b, "predicted": c, "more": None} for a, b, c in rows]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dicts))
    (tmp_path / "p.json").write_text(json.dumps(dicts))
    pq.write_table(pa.Table.from_pylist(dicts), tmp_path / "p.parquet")
    for suffix in ("csv", "tsv", "jsonl", "json", "parquet"):
        assert scored(f"p.{suffix}")["metrics"]["accuracy"] == pytest.approx(guess[1]), suffix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], r"p\.csv line 82: segment 0 of .* is predicted twice"),
        (lambda rows: [("nobody", 0, 1), *rows], r"line 2: ave has no sample 'nobody' in split test"),
        (lambda rows: [(rows[0][0], 10, 1), *rows], "line 2: segment 10 does not exist, they go from 0 to 9"),
        (lambda rows: [(rows[0][0], "x", 1), *rows[1:]], "line 2: segment must be a whole number, not 'x'"),
        (lambda rows: [(rows[0][0], 0, 29), *rows[1:]], "line 2: class 29 does not exist, ids go from 0 to 28"),
        (lambda rows: [(rows[0][0], 0, "Barck"), *rows[1:]], "line 2: unknown class 'Barck': did you mean 'Bark'"),
        (lambda rows: [(*rows[0], 1), *rows[1:]], "line 2 has more fields than the header"),
        (lambda rows: rows[1:], "sample .*: no prediction of segment 0: --missing blank"),
        (lambda rows: [], "has no row"),
    ],
)
def test_bad_rows_are_named(scored, truth, guess, tmp_path, change, message):
    rows = change(rows_of(truth, guess))
    (tmp_path / "p.csv").write_text("\n".join(["id,segment,predicted", *(",".join(map(str, row)) for row in rows)]))
    with pytest.raises(UsageError, match=message):
        scored("p.csv")


def test_missing_predictions(scored, truth, guess, tmp_path):
    ids, labels = truth
    scores, _ = guess
    with pytest.raises(UsageError, match=rf"2 of 8 samples of split test have no prediction: {ids[6]}, {ids[7]};"):
        scored(scores=scores[:6], ids=np.array(ids[:6]))
    found = scored(options={"missing": "blank"})
    assert (found["missing"], found["missing_samples"]) == (2, ids[6:])
    decided = scores.argmax(-1)
    decided[6:] = BACKGROUND
    assert found["metrics"]["accuracy"] == pytest.approx(np.mean(decided == labels))
    with pytest.raises(UsageError, match="unknown --missing 'blnk': did you mean 'blank'"):
        scored(options={"missing": "blnk"})
    rows = rows_of(truth, guess)[3:]
    (tmp_path / "p.csv").write_text("\n".join(["id,segment,predicted", *(",".join(map(str, row)) for row in rows)]))
    part = scored("p.csv", options={"missing": "blank"})
    assert (part["missing"], part["missing_segments"]) == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, ids: a | {"ids": np.array([*ids[:7], "acIip000000"])}, "has no sample 'acIip000000' in split test"),
        (lambda a, ids: a | {"ids": np.array([*ids[:7], ids[0]])}, "is predicted twice"),
        (lambda a, ids: a | {"ids": np.array(ids[:7])}, "array 'scores' has 8 rows for 7 samples"),
        (lambda a, ids: a | {"ids": np.zeros((8, 2))}, "must be a list of texts, not float64"),
        (lambda a, ids: {"scores": a["scores"][:7]}, "holds 7 samples without names, split test has 8"),
        (lambda a, ids: {"scores": a["scores"].reshape(80, 29)[:79]}, "has 79 segments without names"),
        (lambda a, ids: {"scores": a["scores"][:, :9]}, "has 9 predicted segments, 10 are needed"),
        (lambda a, ids: {"scores": a["scores"][..., :28]}, "array 'scores' has 28 columns for 29 classes"),
        (lambda a, ids: {"scores": a["scores"][0, 0]}, r"shape \(29,\): it must have 2 axes"),
        (lambda a, ids: a | {"segments": np.full(8, 9)}, "has 9 predicted segments, 10 are needed"),
        (lambda a, ids: a | {"segments": np.full(8, 10.0)}, "'segments' must hold one whole number a sample"),
        (lambda a, ids: {"scores": np.where(np.arange(29) == 3, np.nan, a["scores"])}, "scores of sample .* holds NaN"),
        (lambda a, ids: {"scores": a["scores"].astype(str)}, "holds <U.*, not numbers"),
        (lambda a, ids: {"predicted": np.full((8, 10), 29)}, "sample .*: array 'predicted' holds class 29"),
        (lambda a, ids: {"predicted": np.full((8, 10), -1)}, "holds class -1, ids go from 0 to 28"),
        (lambda a, ids: {"predicted": np.full((8, 10), 0.5)}, "must hold class ids, whole numbers"),
        (lambda a, ids: {"predicted": np.array([["x"] * 10] * 8, dtype=object)}, "Python objects"),
        (lambda a, ids: a | {"predicted": np.full((8, 10), 28)}, "'scores' and 'predicted' disagree about segment"),
        (lambda a, ids: a | {"event_logit": np.zeros((8, 10)), "class_logit": np.zeros((8, 28))}, "predictions twice"),
        (lambda a, ids: a | {"selection": np.array("train")}, "'selection' must be one of the texts val, test, last"),
        (lambda a, ids: {"logits": a["scores"]}, "holds logits; for events it needs 'scores'"),
    ],
)
def test_arrays_that_do_not_fit_are_named(scored, truth, guess, change, message):
    ids, _ = truth
    with pytest.raises(UsageError, match=message):
        scored(**change({"scores": guess[0]}, ids))


def test_names_of_other_splits_and_of_several_samples(scored, truth, guess, toy_events, tmp_path):
    ids, _ = truth
    other = load_dataset("ave", toy_events.root).split("train")[0].id
    wrong = rf"1 of 8 .* have no prediction: {ids[7]}; it has 1 of split train: choose the split with --split"
    with pytest.raises(UsageError, match=wrong):
        scored(scores=guess[0], ids=np.array([*ids[:7], other]))
    assert scored(options={"missing": "blank"})["missing"] == 1
    with pytest.raises(UsageError, match=r"8 of 8 .*; it has 1 of split train"):  # not all blank
        scored(scores=guess[0][:1], ids=np.array([other]), options={"missing": "blank"})
    more = np.concatenate([guess[0][:3], guess[0][5:6], guess[0][3:]])
    found = scored(scores=more, ids=np.array([*ids[:3], other, *ids[3:]]))
    assert (found["other_splits"], found["metrics"]["accuracy"]) == (1, pytest.approx(guess[1]))
    root = shutil.copytree(toy_events.root, tmp_path / "twice")
    folder = root / "AVE_Dataset"
    for name in ("testSet.txt", "Annotations.txt"):
        rows = (folder / name).read_text()
        last = rows.strip().splitlines()[-1]
        (folder / name).write_text(rows + "Truck&" + last.split("&", 1)[1] + "\n")
    samples = load_dataset("ave", root).split("test")
    assert samples[-1].clip == samples[-2].clip
    clips = np.array([sample.clip for sample in samples])
    np.savez(tmp_path / "p.npz", predicted=np.zeros((9, 10), int), ids=clips)
    with pytest.raises(UsageError, match=r"may be any of 2 samples: write one of the ids '39:.*', '40:"):
        score("ave", tmp_path / "p.npz", root=root)
    np.savez(tmp_path / "p.npz", predicted=np.zeros((9, 10), int), ids=np.array([s.id for s in samples]))
    assert score("ave", tmp_path / "p.npz", root=root)["samples"] == 9


def test_damaged_files_are_refused(scored, guess, tmp_path):
    scored(scores=guess[0])
    whole = (tmp_path / "p.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 0xFF
    for name, data in {"cut": whole[:5000], "flipped": bytes(flipped), "empty": b"", "text": b"no zip"}.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(UsageError, match=rf"{name}\.npz cannot be read"):
            scored(f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:  # a shape that its bytes do not fill
        data = zipfile.ZipFile(tmp_path / "p.npz").read("scores.npy")
        archive.writestr("scores.npy", data.replace(b"(8, 10, 29)", b"(9, 10, 29)"))
    with pytest.raises(UsageError, match="other bytes than its shape"):
        scored("lie.npz")
    with zipfile.ZipFile(tmp_path / "open.npz", "w") as archive:
        archive.writestr("scores.npy", data.replace(b"29), }", b"29), }("))
    with pytest.raises(UsageError, match="'scores' has a damaged header"):
        scored("open.npz")
    with pytest.raises(UsageError, match="there are no predictions"):
        scored("absent.npz")
    (tmp_path / "p.xyz").write_text("")
    with pytest.raises(UsageError, match=r"predictions are an \.npz file, a table"):
        scored("p.xyz")
    with pytest.raises(UsageError, match="cannot be read from a folder"):
        scored("")


def test_unknown_names(scored, guess):
    with pytest.raises(UsageError, match="unknown split 'tets': did you mean 'test'"):
        scored(scores=guess[0], options={"split": "tets"})
    with pytest.raises(UsageError, match="unknown protocol 'ave-accuracy': did you mean 'ave-segment-accuracy'"):
        scored(options={"protocol": "ave-accuracy"})
    with pytest.raises(UsageError, match="holds 8 samples without names, split train has 24"):
        scored(options={"split": "train"})


def test_evaluate_and_score_agree_on_a_run(event_run, toy_events):
    told = json.loads((event_run / "metrics.json").read_text())
    found = score("ave", event_run / "predictions-test.npz", root=toy_events.root)
    assert (found["protocol"], found["metrics"]) == (told["protocol"], told["metrics"])
