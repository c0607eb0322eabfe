"""Scoring anybody's class maps: formats, the size of scoring, the padding of short clips."""

import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avss
from avpipe.stages.scoring import score, semantic

CLIPS = {"a_0_5": ("v1s", 5), "b_1": ("v1m", 5), "c_0_10": ("v2", 10)}
SIZE = (14, 10)
"""Height and width of predictions; masks are twice as large."""


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A root with three clips, their masks `[T, H, W]` at the size of scoring, and predictions for ten frames each."""
    root, rng = tmp_path_factory.mktemp("avss"), np.random.default_rng(4)
    rows, truth, guess = ["vid,uid,s_min,s_sec,a_obj,split,label"], [], []
    for name, (part, frames) in CLIPS.items():
        rows.append(f"{name},{name},0,0,dog,test,{part}")
        small = rng.integers(0, 71, (frames, *SIZE)).astype(np.uint8)
        for number, mask in enumerate(small):
            save(root / part / name / "labels_semantic" / f"{number}.png", mask.repeat(2, axis=0).repeat(2, axis=1))
        truth.append(small)
        padded = np.concatenate([small, np.zeros((10 - frames, *SIZE), np.uint8)])
        noise = rng.integers(0, 71, padded.shape)
        guess.append(np.where(rng.random(padded.shape) < 0.6, padded, noise).astype(np.uint8))
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root, truth, guess


@pytest.fixture
def scored(data, tmp_path):
    def run(source="p.npz", /, *, options=None, **arrays):
        if arrays:
            np.savez(tmp_path / source, **arrays)
        return score("avsbench-avss", tmp_path / source, root=data[0], **(options or {}))

    return run


def official(truth, guess):
    scorer = avss.AvssScorer(len(truth))
    for index, (mask, own) in enumerate(zip(truth, guess, strict=True)):
        scorer.add(index, own, mask)
    return scorer.result()


def same(found, expected):
    pooled = expected["other_protocols"]["avss-pooled"]
    assert (found["protocol"], set(found["other_protocols"])) == ("avss-official", {"avss-pooled"})
    assert found["other_protocols"]["avss-pooled"] == pooled
    assert found["metrics"] == {k: v for k, v in expected.items() if k not in ("protocol", "other_protocols")}


def test_ten_frames_for_every_clip(scored, data):
    _, truth, guess = data
    expected = official(truth, guess)
    assert (expected["padded_frames"], expected["assumed_frames"], expected["frames"]) == (10, 0, 30)
    same(scored(predicted=np.stack(guess)), expected)
    same(scored(predicted=np.concatenate(guess)), expected)
    names = np.array(list(CLIPS))[::-1]
    same(scored(predicted=np.concatenate(guess[::-1]), ids=names, segments=np.full(3, 10)), expected)
    scores = np.zeros((30, 71, *SIZE), dtype=np.float16)
    np.put_along_axis(scores, np.concatenate(guess)[:, None].astype(int), 1, axis=1)
    found = scored(scores=scores)
    same(found, expected)
    assert found["mask_size"] == list(SIZE)
    pooled = scored(options={"protocol": "avss-pooled"})
    assert pooled["metrics"] == {k: v for k, v in expected["other_protocols"]["avss-pooled"].items() if k != "protocol"}
    assert set(pooled["other_protocols"]) == {"avss-official"}


def test_five_frames_of_short_clips(scored, data, tmp_path):
    _, truth, guess = data
    own = [maps[: len(mask)] for maps, mask in zip(guess, truth, strict=True)]
    expected = official(truth, own)
    assert (expected["padded_frames"], expected["assumed_frames"]) == (10, 10)
    same(scored(predicted=np.concatenate(own)), expected)
    same(
        scored(predicted=np.concatenate(own), ids=np.array([f"avss/{n}" for n in CLIPS]), segments=[5, 5, 10]), expected
    )
    for name, maps in zip(CLIPS, own, strict=True):
        for number, picture in enumerate(maps):
            save(tmp_path / "p" / name / f"{number}.png", picture)
            save(tmp_path / "q" / CLIPS[name][0] / name / "labels_semantic" / f"{number:05}.png", picture)
    same(scored("p"), expected)
    same(scored("q"), expected)
    for number in range(5, 10):
        save(tmp_path / "p" / "b_1" / f"{number}.png", guess[1][number])
    same(scored("p"), official(truth, [own[0], guess[1], own[2]]))


def test_a_palette_stands_for_its_indices(scored, data, tmp_path):
    _, truth, guess = data
    for name, maps in zip(CLIPS, guess, strict=True):
        for number, picture in enumerate(maps):
            image = Image.fromarray(picture, "P")
            image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
            (tmp_path / "p" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "p" / name / f"{number}.png")
    same(scored("p"), official(truth, guess))


def test_missing_clips_are_background(scored, data):
    _, truth, guess = data
    predicted, names = np.stack(guess[:2]), np.array(list(CLIPS)[:2])
    with pytest.raises(UsageError, match="1 of 3 samples of split test have no prediction: avss/c_0_10;"):
        scored(predicted=predicted, ids=names)
    found = scored(options={"missing": "blank"})
    same(found, official(truth, [*guess[:2], np.zeros_like(guess[2])]))
    assert found["missing_samples"] == ["avss/c_0_10"]


def test_what_does_not_fit(scored, data, tmp_path):
    _, _, guess = data
    with pytest.raises(UsageError, match=r"sample 'avss/.*': array 'predicted' holds class 71, ids go from 0 to 70"):
        scored(predicted=np.full((3, 10, *SIZE), 71, np.uint8))
    with pytest.raises(UsageError, match="array 'scores' has 70 classes, the dataset has 71"):
        scored(scores=np.zeros((30, 70, 2, 2), np.float16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "MOST_PIXELS", 100)
        with pytest.raises(UsageError, match=r"sample 'avss/.*': predictions are 11 x 10, more than 100 pixels"):
            scored(predicted=np.zeros((1, 10, 11, 10), np.uint8), ids=["c_0_10"])
    with pytest.raises(UsageError, match="has 7 predicted segments, 5 or 10 are needed"):
        scored(predicted=np.zeros((3, 10, *SIZE), np.uint8), segments=[7, 10, 10])
    for name, maps in zip(CLIPS, guess, strict=True):
        for number, picture in enumerate(maps):
            save(tmp_path / "p" / name / f"{number}.png", picture if name != "b_1" else picture[:5])
    with pytest.raises(UsageError, match=r"predictions have several sizes \(5 x 10, 14 x 10\): resize them to one"):
        scored("p")
    save(tmp_path / "q" / "a_0_5" / "0.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match="no picture of segment 1"):
        scored("q")
    for number in range(1, 5):
        save(tmp_path / "q" / "a_0_5" / f"{number}.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match="Pillow mode 'RGB': save it as 8-bit grey, class ids"):
        scored("q")
