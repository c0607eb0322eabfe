"""Scoring anybody's masks: arrays and pictures give the numbers of the metric, and what does not fit is named."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset, read_mask
from avpipe.pipeline.errors import UsageError
from avpipe.stages.metrics import avs
from avpipe.stages.scoring import score


@pytest.fixture(scope="module")
def samples(toy_masks):
    return load_dataset("avsbench-ms3", toy_masks.root).split("test")


@pytest.fixture(scope="module")
def drawn(samples):
    """Pictures of probability x 255, `[8, 5, 32, 32]`: the truth, blurred by noise."""
    rng = np.random.default_rng(1)
    truth = np.array([[read_mask(mask) for mask in sample.masks] for sample in samples])
    return np.clip(truth * 150 + rng.integers(0, 106, truth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(samples, drawn):
    scorer = avs.AvsScorer(8)
    for index, sample in enumerate(samples):
        scorer.add(index, drawn[index] / np.float32(255), np.stack([read_mask(mask) for mask in sample.masks]))
    return scorer


@pytest.fixture
def scored(toy_masks, tmp_path):
    def run(source="p.npz", /, *, options=None, **arrays):
        if arrays:
            np.savez(tmp_path / source, **arrays)
        return score("avsbench-ms3", tmp_path / source, root=toy_masks.root, **(options or {}))

    return run


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path)


def fill(folder, samples, drawn, name="{clip}/{n}.png", values=lambda v: v):
    """A folder of pictures under names made of clip, bare name and number."""
    for sample, pictures in zip(samples, drawn, strict=True):
        for number, picture in enumerate(pictures, 1):
            bare = sample.clip.removeprefix("ms3/")
            save(folder / name.format(clip=sample.clip, bare=bare, n=number), values(picture))


def test_arrays(scored, samples, drawn, expected):
    share = drawn / np.float32(255)
    with np.errstate(divide="ignore"):
        logits = np.log(share) - np.log1p(-share)  # with infinite ones where the probability is 0 or 1
    ids = np.array([sample.id.removeprefix("ms3/") for sample in samples])
    order = np.random.default_rng(2).permutation(8)
    forms = {
        "padded": {"probabilities": share},
        "flat, in another order": {"probabilities": share[order].reshape(40, 32, 32), "ids": ids[order]},
        "doubles": {"probabilities": share.astype(np.float64)},
        "logits": {"logits": logits},
    }
    for name, arrays in forms.items():
        found = scored(**arrays)
        assert found["protocol"] == "avsbench-batch4"
        assert found["mask_size"] == [32, 32]
        for protocol, scores in {"avsbench-batch4": found["metrics"], **found["other_protocols"]}.items():
            official = expected.score(protocol)
            for key in ("miou", "fscore", "frames", "videos"):
                assert scores[key] == pytest.approx(official[key], abs=1e-6), (name, protocol, key)
    named = scored(probabilities=share, options={"protocol": "avsbench-batch3"})
    assert named["protocol"] == "avsbench-batch3"
    assert named["metrics"]["fscore"] == pytest.approx(expected.score("avsbench-batch3")["fscore"])
    assert set(named["other_protocols"]) == {"avsbench-batch4", "avsbench-batch1", "avsbench-set"}


@pytest.mark.parametrize(
    "name",
    [
        "{clip}/{n}.png",
        "{bare}/{n:05}.png",
        "{bare}_{n}.png",
        "{bare}/{bare}_{n:02}.PNG",
        "Multi-sources/ms3_data/gt_masks/test/{bare}/{bare}_{n}.png",
        "test/{bare}/{bare}_{n}.png",
    ],
)
def test_pictures(scored, samples, drawn, expected, tmp_path, name):
    fill(tmp_path / "p", samples, drawn, name)
    (tmp_path / "p" / "readme.txt").write_text("")
    (tmp_path / "p" / ".hidden.png").write_text("")
    found = scored("p")
    assert found["metrics"] == pytest.approx({k: v for k, v in expected.score().items() if k != "protocol"})


def test_pictures_of_masks(scored, samples, drawn, tmp_path):
    fill(tmp_path / "grey", samples, drawn, values=lambda v: np.where(v > 127, 255, 0).astype(np.uint8))
    fill(tmp_path / "bits", samples, drawn, values=lambda v: v > 127)
    assert scored("grey")["metrics"] == scored("bits")["metrics"]
    fill(tmp_path / "ones", samples, drawn, values=lambda v: (v > 127).astype(np.uint8))
    with pytest.raises(UsageError, match="no pixel is above 1"):
        scored("ones")
    fill(tmp_path / "none", samples, drawn, values=np.zeros_like)
    assert scored("none")["metrics"]["fscore"] < scored("grey")["metrics"]["fscore"]


def test_what_is_missing(scored, samples, drawn, tmp_path, toy_masks):
    fill(tmp_path / "p", samples[:7], drawn[:7])
    (tmp_path / "p" / samples[2].clip / "4.png").unlink()
    with pytest.raises(
        UsageError, match=rf"sample '{samples[2].id}': there is no picture of segment 4: --missing blank"
    ):
        scored("p")
    found = scored("p", options={"missing": "blank"})
    assert (found["missing"], found["missing_samples"], found["missing_segments"]) == (1, [samples[7].id], 1)
    changed = drawn.copy()
    changed[7], changed[2, 3] = 0, 0
    assert found["metrics"] == scored(probabilities=changed / np.float32(255))["metrics"]


def test_segments_without_a_mask_are_not_scored(drawn, tmp_path, toy_masks):
    root = shutil.copytree(toy_masks.root, tmp_path / "root")
    samples = load_dataset("avsbench-ms3", root).split("test")
    samples[3].masks[1].unlink()
    shutil.rmtree(samples[5].masks[0].parent)
    share = drawn / np.float32(255)
    np.savez(tmp_path / "p.npz", probabilities=share)
    found = score("avsbench-ms3", tmp_path / "p.npz", root=root)
    assert (found["samples"], found["unlabelled_samples"], found["unlabelled_segments"]) == (7, [samples[5].id], 1)
    assert found["metrics"]["frames"] == 34
    np.savez(tmp_path / "p.npz", probabilities=np.delete(share, 5, axis=0))  # those with annotation alone
    assert score("avsbench-ms3", tmp_path / "p.npz", root=root)["metrics"] == found["metrics"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probabilities": np.full((8, 5, 32, 32), 1.5)}, "sample .*: probabilities must lie in 0 to 1"),
        ({"probabilities": np.full((8, 5, 32, 32), -0.1)}, "sample .*: probabilities must lie in 0 to 1"),
        ({"logits": np.full((8, 5, 32, 32), np.nan)}, "logits of sample .* holds NaN"),
        ({"logits": np.zeros((8, 5, 16, 16))}, "sample .*: its predictions are 16 x 16, mask .* is 32 x 32"),
        ({"logits": np.zeros((8, 4, 32, 32))}, "has 4 predicted segments, 5 are needed"),
        ({"logits": np.zeros((32, 32))}, "must have 3 axes"),
        ({"scores": np.zeros((8, 5, 32, 32))}, "for segmentation it needs 'logits'"),
    ],
)
def test_arrays_that_do_not_fit(scored, arrays, message):
    with pytest.raises(UsageError, match=message):
        scored(**arrays)


def test_pictures_numbered_from_zero_as_the_authors_save_them(scored, samples, drawn, expected, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(progress, "say", told.append)
    for sample, pictures in zip(samples, drawn, strict=True):
        bare = sample.clip.removeprefix("ms3/")
        for number, picture in enumerate(pictures):
            save(tmp_path / "p" / bare / f"{bare}_{number}.png", picture)
    assert scored("p")["metrics"]["miou"] == pytest.approx(expected.result()["miou"], abs=1e-12)
    assert ["pictures of 8 samples are numbered from 0" in line for line in told] == [True]
    (tmp_path / "p" / bare / f"{bare}_2.png").unlink()
    with pytest.raises(UsageError, match=f"belongs to {bare}/{bare}_0.png; .* numbers begin with 1, or with 0 where"):
        scored("p")


def test_pictures_of_other_splits_are_ignored(scored, samples, drawn, expected, tmp_path, toy_masks):
    others = load_dataset("avsbench-ms3", toy_masks.root).split("train")[:2]
    fill(tmp_path / "p", [*others, *samples], np.concatenate([drawn[:2], drawn]))
    found = scored("p")
    assert (found["other_splits"], found["metrics"]["miou"]) == (2, pytest.approx(expected.result()["miou"]))
    shutil.rmtree(tmp_path / "p" / samples[0].clip)
    with pytest.raises(
        UsageError, match=r"1 of 8 .* have no prediction: .*; it has 2 of split train: choose the split"
    ):
        scored("p")
    save(tmp_path / "p" / "nobody_1.png", drawn[0, 0])
    with pytest.raises(UsageError, match=r"no segment of split test belongs to nobody_1\.png"):
        scored("p")


def test_only_png_files_are_pictures(scored, samples, drawn, tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(
        UsageError, match=r"p holds no PNG file: save 8-bit grey PNG files, with names such as .*_1\.png"
    ):
        scored("p")
    save(tmp_path / "p" / "x.jpg", drawn[0, 0])
    with pytest.raises(UsageError, match=r"p holds no PNG file; it has x\.jpg: save"):
        scored("p")
    fill(tmp_path / "p", samples, drawn)  # beside them pictures for the eye
    fill(tmp_path / "p", samples, drawn, "{clip}/{n}.jpg")
    scored("p")
    (tmp_path / "p" / samples[0].clip / "2.png").unlink()
    with pytest.raises(UsageError, match=r"000032/2\.jpg: pictures must be 8-bit grey PNG files"):
        scored("p")


def test_pictures_that_do_not_fit(scored, samples, drawn, tmp_path):
    folder = tmp_path / "p"
    fill(folder, samples, drawn)
    first = folder / samples[0].clip / "1.png"
    save(folder / f"{samples[0].clip}_1.png", drawn[0, 0])
    with pytest.raises(UsageError, match="are both of segment 1 of sample"):
        scored("p")
    (folder / f"{samples[0].clip}_1.png").unlink()
    for name in ("somebody/1.png", f"{samples[0].clip}/0.png", f"{samples[0].clip}/6.png"):
        save(folder / name, drawn[0, 0])
        with pytest.raises(UsageError, match=rf"no segment of split test belongs to {name}; names may look like"):
            scored("p")
        (folder / name).unlink()
    save(first, np.zeros((16, 32), np.uint8))
    with pytest.raises(UsageError, match="several sizes: 16 x 32, 32 x 32"):
        scored("p")
    save(first, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="has Pillow mode 'RGB': save it as 8-bit grey, probability x 255"):
        scored("p")
    first.write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"1\.png cannot be read as a picture"):
        scored("p")
    (tmp_path / "p.csv").write_text("id,mask\n")
    with pytest.raises(UsageError, match="cannot be read from a table"):
        scored("p.csv")


def test_evaluate_and_score_agree_on_a_run(mask_run, toy_masks):
    told = json.loads((mask_run / "metrics.json").read_text())
    found = score("avsbench-ms3", mask_run / "predictions-test.npz", root=toy_masks.root)
    assert (found["protocol"], found["metrics"]) == (told["protocol"], told["metrics"])
    assert found["other_protocols"] == told["other_protocols"]
