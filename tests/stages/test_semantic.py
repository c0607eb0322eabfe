"""Class maps learned from features: what counts in the loss, what is scored, and what can be had without input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from features_toy import CLASS_IDS, make_class_maps
from PIL import Image
from torch.nn import functional

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages import runs, train_inputs
from avpipe.stages.baselines import best_constant_map
from avpipe.stages.config import TrainConfig, defaults_for
from avpipe.stages.effect import idle
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import ClipFeatures, FeatureBatch, FeatureStore
from avpipe.stages.model import build_model
from avpipe.stages.report import make_report, samples
from avpipe.stages.report.sources import open_sources
from avpipe.stages.runs import RunConfig
from avpipe.stages.scoring import score
from avpipe.stages.tasks import SemanticTask, build_task
from avpipe.stages.tasks.semantic import class_loss
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import learnable, mask_size_of

SIZE = (8, 12)
NATIVE = (32, 48)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Do not change it. Two clips of test have no features."""
    return make_class_maps(tmp_path_factory.mktemp("class_maps"), lacking=(33, 34))


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Trained at the size of the toy's masks: at the official one it would take a minute."""
    settings = ("epochs=15", "lr=1e-2", "width=16", "rank=16", "meta_tokens=2")
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_inputs, "EVAL_SIZE", NATIVE)
        return train(
            TrainOptions("avsbench-avss", toy.root, cache=toy.cache, run=folder, device="cpu", overrides=settings)
        )


@pytest.fixture(scope="module")
def scores(run):
    return evaluate(run)


@pytest.fixture
def written(tmp_path):
    """Samples of a clip with 2 segments, one of 12, and one of 10 that lacks masks, and their maps at SIZE."""
    rng, made, maps = np.random.default_rng(3), [], []
    for number, segments in enumerate((2, 12, 10)):
        ids = rng.integers(0, 4, (segments, *SIZE)).astype(np.uint8)
        files = [tmp_path / f"{number}-{segment}.png" for segment in range(segments)]
        for file, one in zip(files, ids, strict=True):
            Image.fromarray(one.repeat(2, 0).repeat(2, 1)).save(file)
        held = [file if number < 2 or segment < 4 else None for segment, file in enumerate(files)]
        made.append(Sample(str(number), f"c{number}", "test", masks=tuple(held)))
        maps.append(ids)
    return made, maps


def batch(indices, valid):
    valid = torch.tensor(valid)
    return FeatureBatch(tuple(indices), {}, torch.ones_like(valid), valid)


def test_class_loss_against_its_definition():
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.tensor([[[0, 0, 0, 1]] * 3, [[2, 2, 4, 4]] * 3])
    chance, hot = logits.softmax(1), functional.one_hot(truth, 5).movedim(-1, 1).float()
    dice = 2 * (chance * hot).sum((2, 3)) / (chance.sum((2, 3)) + hot.sum((2, 3)))
    present = [dice[0, 0], dice[0, 1], dice[1, 2], dice[1, 4]]
    expected = -(chance.log() * hot).sum(1).mean() + 0.7 * (1 - torch.stack(present)).mean()
    found = class_loss(logits, truth, 0.7)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(class_loss(logits, truth, 0.0), functional.cross_entropy(logits, truth))


def test_loss_counts_annotated_valid_segments_only(written):
    """Clips of several lengths in a batch: padding counts nowhere, nor do segments without a mask."""
    made, maps = written
    task = SemanticTask(made, 4, SIZE, dice=0.5)
    logits = torch.randn(2, 10, 4, *SIZE, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[0, 2:] = False  # padding of the clip of two segments
    valid[1, 1] = False
    found = task.loss(logits, batch([0, 2], valid.tolist()))
    chosen = [(0, 0, 0), (0, 0, 1), (1, 2, 0), (1, 2, 2), (1, 2, 3)]
    truth = torch.from_numpy(np.stack([maps[index][segment] for _, index, segment in chosen])).long()
    picked = torch.stack([logits[row, segment] for row, _, segment in chosen])
    torch.testing.assert_close(found, class_loss(picked, truth, 0.5))
    half = task.loss(logits[..., ::2, ::2], batch([0, 2], valid.tolist()))
    rows, columns = np.arange(4) * 2 + 1, np.arange(6) * 2 + 1
    small = truth[:, rows[:, None], columns]
    torch.testing.assert_close(half, class_loss(picked[..., ::2, ::2], small, 0.5))
    nothing = logits.requires_grad_()
    task.loss(nothing, batch([0, 2], [[False] * 10] * 2)).backward()
    assert (nothing.grad == 0).all()


def test_predictions_are_the_likeliest_class_behind_the_resize(written):
    task = SemanticTask(written[0], 4, (16, 24))
    logits = torch.randn(2, 10, 4, *SIZE, generator=torch.Generator().manual_seed(1)).half()
    second, first = task.predictions(logits, batch([2, 0], [[True] * 10] * 2))
    assert (first.shape, second.shape) == ((2, 16, 24), (10, 16, 24))
    assert first.dtype == np.uint8
    full = functional.interpolate(logits[1].float(), size=(16, 24), mode="bilinear", align_corners=False)
    assert (first == full[:2].argmax(1).numpy()).all()


def test_scores_pad_short_clips_as_the_official_program(written):
    made, maps = written
    task = SemanticTask(made, 4, SIZE)
    guess = [np.where(np.random.default_rng(i).random(one.shape) < 0.7, one, 1) for i, one in enumerate(maps)]
    found = task.score(guess)
    assert (found["protocol"], found["frames"]) == ("avss-official", 10 + 12 + 4)
    assert (found["padded_frames"], found["assumed_frames"]) == (8, 8)
    assert task.validate(guess) == found["miou"]
    assert task.validate(maps) == 1.0
    frame = guess[2][0] == 2, maps[2][0] == 2
    pairs = [(guess[2][0] == c, maps[2][0] == c) for c in range(4)]
    by_hand = np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs])
    assert task.values(2, guess[2])[0] == pytest.approx(by_hand)
    assert frame[1].any()
    assert len(task.values(2, guess[2])) == 4
    assert task.blank(1).shape == (12, *SIZE)


def test_the_constant_map_is_the_best_of_its_kind(tmp_path):
    """A dog at the left in most frames, a bell in few at the right: the map has the dog, and not the bell."""
    made = []
    for number in range(10):
        ids = np.zeros((32, 32), np.uint8)
        if number < 7:
            ids[:, :16] = 2
        if number < 1:
            ids[:, 24:] = 1
        Image.fromarray(ids).save(tmp_path / f"{number}.png")
        made.append(Sample(str(number), "c", "train", masks=(tmp_path / f"{number}.png",)))
    task = SemanticTask(made, 3, (32, 32))
    ids = best_constant_map(task)
    assert ids.shape == (8, 8)
    assert (ids[:, :4] == 2).all()
    assert (ids[:, 4:] == 0).all()
    background, constant = task.baselines(made, ("background", "bell", "dog"))
    assert constant.about["shares"] == {"background": 0.5, "dog": 0.5}
    assert task.validate(constant.predictions) > task.validate(background.predictions)
    assert len(list(task.masks(4))) == 4


def test_what_is_built_for_class_maps(toy, run):
    dataset = load_dataset("avsbench-avss", toy.root)
    assert mask_size_of(dataset) == (224, 224)
    task = build_task("semantic", dataset.split("test"), classes=71, mask_size=SIZE, config=TrainConfig(dice=0.25))
    assert isinstance(task, SemanticTask)
    assert (task.classes, task.dice) == (71, 0.25)
    with pytest.raises(UsageError, match="'bare' has no masks"):
        build_task("semantic", [Sample("bare", "c", "test")], classes=71, mask_size=SIZE, config=TrainConfig())
    assert "dice" not in idle(defaults_for("semantic"), "semantic")
    first = [sample for sample in learnable(dataset) if len(sample.masks or ()) == 5]
    assert {sum(file is not None for file in sample.masks) for sample in first} == {1}  # v1s: the first frame alone
    config = RunConfig.load(run)
    assert (config.model.task, config.model.classes, config.model.mask_size) == ("semantic", 71, NATIVE)


def test_padding_changes_no_prediction(toy, run):
    """A clip of five segments beside one of ten has the logits that it has alone."""
    config, dataset = RunConfig.load(run), load_dataset("avsbench-avss", toy.root)
    pair = dataset.split("val")[:2]
    assert sorted(len(sample.masks) for sample in pair) == [5, 10]
    torch.manual_seed(0)
    model = build_model(config.model, config.train).eval()
    taps = {m: tuple(one) for m, one in config.model.shapes.items()}
    store = FeatureStore(open_cache(toy.cache), taps, [sample.clip for sample in pair])
    data = ClipFeatures(store, pair)
    with torch.no_grad():
        both = model(data.batch([0, 1]))
        alone = [model(data.batch([i]))[0] for i in (0, 1)]
    assert both.shape[:3] == (2, 10, 71)
    for row, theirs in zip(both, alone, strict=True):
        torch.testing.assert_close(row[: len(theirs)], theirs, rtol=1e-4, atol=1e-5)


def test_class_maps_are_learned_above_what_needs_no_input(run, scores):
    records = [json.loads(line) for line in (run / runs.EPOCHS).read_text().splitlines()]
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]
    best = max(one["miou"] for one in scores["baselines"].values())
    assert set(scores["baselines"]) == {"background", "constant_map"}
    assert scores["metrics"]["miou"] > 1.2 * best
    assert scores["missing"] == 2


def test_evaluate_and_score_agree(toy, run, scores):
    found = score("avsbench-avss", run / "predictions-test.npz", root=toy.root)
    assert found["metrics"] == scores["metrics"]
    assert found["other_protocols"] == scores["other_protocols"]
    assert scores["metrics"]["padded_frames"] == 5 * 4  # half of the eight clips have five frames
    on_train = evaluate(run, "train")
    assert on_train["metrics"]["frames"] == 12 * (1 + 5) + 12 * 10
    again = score("avsbench-avss", run / "predictions-train.npz", root=toy.root, split="train")
    assert again["metrics"] == on_train["metrics"]


def test_a_report_of_class_maps(run, scores, tmp_path):
    sources = open_sources(run, "test", None, None, "cpu")
    task = sources.config.build_task(sources.samples)
    entries, order = samples.rows(sources, task)
    assert [entry["score"] for entry in entries] == sorted(entry["score"] for entry in entries)
    for entry, index in zip(entries, order, strict=True):
        truth = task.truth(index)
        assert entry["true"] == [[int(i) for i in np.unique(ids) if i] for ids in truth]
        assert {number for ids in entry["true"] for number in ids} <= set(CLASS_IDS)
        assert entry["empty"] == [not ids.any() for ids in truth]
    table = samples.confusion(sources, task)
    assert table["unit"] == "pixel"
    assert np.sum(table["counts"]) == sum(len(s.masks) for s in sources.samples) * NATIVE[0] * NATIVE[1]
    bell = table["classes"].index("bell")
    assert np.sum(table["counts"][bell]) == sum((ids == 6).sum() for i in range(8) for ids in task.truth(i))
    made = make_report(run, out=tmp_path / "page.html", clips=2)
    page = Path(made.path).read_text()
    assert len(page) < 2 << 20
    assert '"unit":"pixel"' in page.replace(" ", "")
    assert "gives each class the same weight" in page
