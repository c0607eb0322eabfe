"""Scoring runs: the files it writes say the same as the protocol on the stored predictions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from avpipe.cli.evaluate import evaluate_command
from avpipe.cli.train import train_command
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import CacheMismatch, CorruptionFound, UsageError
from avpipe.stages import runs
from avpipe.stages.baselines import best_constant_mask, majority_class
from avpipe.stages.evaluate import evaluate
from avpipe.stages.metrics import ave, avs
from avpipe.stages.tasks import EventsTask, SegmentationTask
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)


@pytest.fixture(scope="module")
def event_run(toy_events, tmp_path_factory):
    run = tmp_path_factory.mktemp("event") / "run"
    return train(TrainOptions(cache=toy_events.cache, run=run, overrides=("epochs=6",)))


@pytest.fixture(scope="module")
def mask_run(toy_masks, tmp_path_factory):
    run = tmp_path_factory.mktemp("mask") / "run"
    return train(TrainOptions(cache=toy_masks.cache, run=run, overrides=("epochs=2",)))


def truth_of(toy, split="test"):
    samples = load_dataset(toy.name, toy.root).split(split)
    return samples, np.array([sample.events for sample in samples])


def test_events(event_run, toy_events):
    result = evaluate(event_run)
    assert json.loads((event_run / "metrics.json").read_text()) == result
    samples, labels = truth_of(toy_events)
    stored = np.load(event_run / "predictions-test.npz")
    assert stored["ids"].tolist() == [sample.id for sample in samples]
    assert stored["segments"].tolist() == [10] * 8
    assert stored["scores"].shape == (80, 29)
    assert (stored["predicted"] == stored["scores"].argmax(-1)).all()
    again = ave.segment_accuracy(stored["predicted"], labels.ravel())
    assert result["metrics"] == {key: again[key] for key in ("accuracy", "correct", "segments")}
    assert (result["protocol"], result["samples"], result["missing"]) == ("ave-segment-accuracy", 8, 0)
    _, train_labels = truth_of(toy_events, "train")
    usual = np.bincount(train_labels.ravel()).argmax()
    baseline = result["baselines"]["majority_class"]
    assert baseline["accuracy"] == np.mean(labels == usual)
    assert result["metrics"]["accuracy"] > baseline["accuracy"] + 0.2


def test_the_scored_epoch_is_the_best_by_validation(event_run):
    records = [json.loads(line) for line in (event_run / runs.EPOCHS).read_text().splitlines()]
    best = max(records, key=lambda r: (r["val_accuracy"], -r["epoch"]))
    result = evaluate(event_run, "val")
    assert result["epoch"] == best["epoch"]
    assert result["metrics"]["accuracy"] == pytest.approx(best["val_accuracy"])
    assert result["selected_by"] == "val accuracy, highest"
    assert json.loads((event_run / "metrics-val.json").read_text()) == result
    assert (event_run / "predictions-val.npz").exists()


def test_masks(mask_run, toy_masks):
    result = evaluate(mask_run)
    samples = load_dataset("avsbench-ms3", toy_masks.root).split("test")
    stored = np.load(mask_run / "predictions-test.npz")
    assert stored["ids"].tolist() == [sample.id for sample in samples]
    assert stored["logits"].shape == (40, 32, 32)
    task = SegmentationTask(samples, (32, 32))
    videos = [
        avs.frame_scores(avs.probabilities(stored["logits"][5 * i : 5 * i + 5]), np.stack(task.truth(i)))
        for i in range(8)
    ]
    assert result["protocol"] == "avsbench-batch4"
    for name, scores in {"avsbench-batch4": result["metrics"], **result["other_protocols"]}.items():
        again = avs.score(videos, name)
        assert scores["miou"] == pytest.approx(again["miou"])
        assert scores["fscore"] == pytest.approx(again["fscore"])
    assert set(result["other_protocols"]) == {"avsbench-batch1", "avsbench-set"}
    assert 0 <= result["baselines"]["constant_mask"]["miou"] <= 1
    records = [json.loads(line) for line in (mask_run / runs.EPOCHS).read_text().splitlines()]
    by_val = evaluate(mask_run, "val")
    assert by_val["other_protocols"]["avsbench-batch1"]["miou"] == pytest.approx(max(r["val_miou"] for r in records))


@pytest.mark.parametrize("kind", ["events", "masks"])
def test_missing_samples_are_counted_and_scored_as_nothing(make_toy, tmp_path, kind):
    toy = make_toy[kind](tmp_path / "toy", lacking=(33, 39))  # two of test
    run = train(TrainOptions(cache=toy.cache, overrides=SMALL))
    result = evaluate(run)
    assert (result["samples"], result["missing"]) == (8, 2)
    samples = load_dataset(toy.name, toy.root).split("test")
    assert result["missing_samples"] == [samples[1].id, samples[7].id]
    stored = np.load(run / "predictions-test.npz")
    length = stored["segments"][0]
    if kind == "events":
        assert (stored["predicted"][length : 2 * length] == 28).all()
        assert result["metrics"]["segments"] == 80
    else:
        assert (stored["logits"][length : 2 * length] < -10).all()
        assert result["metrics"]["frames"] == 40


def test_samples_without_annotation_are_reported(make_toy, tmp_path):
    toy = make_toy["masks"](tmp_path / "toy")
    samples = load_dataset(toy.name, toy.root).split("test")
    for number in (1, 3, 4, 6):
        shutil.rmtree(samples[number].masks[0].parent)
    samples[0].masks[2].unlink()
    app = Typer()
    app.command("evaluate")(evaluate_command)
    run = train(TrainOptions(cache=toy.cache, overrides=SMALL))
    shown = CliRunner().invoke(app, ["--run", str(run)])
    assert shown.exit_code == 0, shown.output
    result = json.loads((run / "metrics.json").read_text())
    lacking = [samples[number].id for number in (1, 3, 4, 6)]
    assert (result["samples"], result["unlabelled"], result["unlabelled_samples"]) == (4, 4, lacking)
    assert (result["metrics"]["frames"], result["unlabelled_segments"]) == (19, 1)
    assert "not scored: 1 segments" in shown.stdout
    assert f"not scored: 4 more samples of test without annotation ({', '.join(lacking[:3])}, ...)" in shown.stdout
    assert evaluate(run, "val")["unlabelled"] == 0
    again = CliRunner().invoke(app, ["--run", str(run), "--split", "val"])
    assert "not scored" not in again.stdout


def test_majority_class_and_constant_mask(toy_masks):
    samples = load_dataset("avsbench-ms3", toy_masks.root).split("train")
    task = SegmentationTask(samples, (32, 32))

    class Fixed(SegmentationTask):
        def truth(self, index):
            mask = np.zeros((4, 4), dtype=bool)
            mask[1:3, 1:] = index != 0
            mask[0, 0] = index == 1
            return [mask, None]

    best = best_constant_mask(Fixed(samples[:3], (4, 4)))
    assert best.tolist() == [[False] * 4, [False, True, True, True], [False, True, True, True], [False] * 4]
    assert best_constant_mask(task).shape == (32, 32)
    labels = [type(samples[0])(str(i), "c", "train", events=events) for i, events in enumerate([(3, 3, 5), (5, 7, 28)])]
    assert majority_class(labels, 29) == 3
    blank = EventsTask(labels, 29).blank(0)
    assert ave.decide(blank).tolist() == [28] * 3


def test_masks_of_another_size_are_scored_at_their_own(toy_masks, tmp_path):
    samples = load_dataset("avsbench-ms3", toy_masks.root).split("test")
    task = SegmentationTask(samples, (16, 16))
    perfect = []
    for index in range(len(samples)):
        masks = np.stack(task.truth(index))
        assert masks.shape == (5, 32, 32)
        perfect.append(np.where(masks[:, ::2, ::2], 20, -20).astype(np.float16))
    assert task.score(perfect)["miou"] > 0.9


def test_refuses(event_run, toy_events, tmp_path, fill_cache):
    with pytest.raises(UsageError, match="did you mean 'test'"):
        evaluate(event_run, "tets")
    with pytest.raises(UsageError, match="is no run folder"):
        evaluate(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(event_run, copy)
    (copy / runs.BEST).unlink()
    with pytest.raises(UsageError, match="no checkpoint"):
        evaluate(copy)
    (copy / runs.BEST).write_bytes((event_run / runs.BEST).read_bytes()[:1000])
    with pytest.raises(CorruptionFound, match="not a sound checkpoint"):
        evaluate(copy)
    (copy / runs.CONFIG).write_text("dataset: [")
    with pytest.raises(UsageError, match="cannot be read"):
        evaluate(copy)
    tokens = {"clip": {"visual": np.zeros((10, 17, 16)), "audio": np.zeros((10, 9, 16))}}
    fill_cache(tmp_path / "other", {"name": "ave", "root": str(toy_events.root)}, tokens, weights="two")
    with pytest.raises(CacheMismatch, match="was trained on audio features"):
        evaluate(event_run, cache=tmp_path / "other")


def test_the_commands(toy_events, tmp_path):
    app = Typer()
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)
    done = CliRunner().invoke(app, ["train", "--cache", str(toy_events.cache), "--method", "linear", *SMALL, "seed=3"])
    assert done.exit_code == 0, done.output
    run, following = done.stdout.splitlines()
    assert following == f"next: avpipe evaluate --run {run}"
    assert Path(run).is_dir()
    shown = CliRunner().invoke(app, ["evaluate", "--run", run])
    assert shown.exit_code == 0, shown.output
    metrics = json.loads((Path(run) / "metrics.json").read_text())
    assert metrics["seed"] == 3
    for word in ("linear (both)", "majority class", "ave-segment-accuracy", f"{metrics['metrics']['accuracy']:.4f}"):
        assert word in shown.stdout
    as_json = CliRunner().invoke(app, ["evaluate", "--run", run, "--split", "val", "--json"])
    assert json.loads(as_json.stdout)["split"] == "val"
    again = CliRunner().invoke(app, ["train", "--resume", "--run", run])
    assert again.exit_code == 0, again.output
