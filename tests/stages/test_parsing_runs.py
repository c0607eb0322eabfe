"""Runs on parsing: the two scorers agree, what is learned from, going on, one modality, a user's own table."""

import json

import numpy as np
import pytest
import torch
from features_toy import LOOKS, SOUNDS, fill_cache
from typer import Typer
from typer.testing import CliRunner

from avpipe.cli.evaluate import evaluate_command
from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.datasets.origin import origin_of
from avpipe.pipeline.errors import UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.inference import load_trained
from avpipe.stages.metrics import llp
from avpipe.stages.runs import RunConfig
from avpipe.stages.scoring import score
from avpipe.stages.shuffle import shuffle_costs
from avpipe.stages.step_log import StepLog
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import find_inputs, labelled, learnable

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ten(metrics):
    return {name: metrics[name] for name in llp.METRICS}


def test_both_scorers_agree_and_the_command_prints_them(parsing_run, toy_parsing):
    result = evaluate(parsing_run)
    assert json.loads((parsing_run / "metrics.json").read_text()) == result
    assert (result["protocol"], result["task"], result["samples"]) == ("llp-official", "parsing", 8)
    again = score("llp", parsing_run / "predictions-test.npz", root=toy_parsing.root)
    assert ten(again["metrics"]) == ten(result["metrics"])
    stored = np.load(parsing_run / "predictions-test.npz")
    assert (stored["segment_probability"].shape, stored["video_probability"].shape) == ((80, 2, 25), (8, 25))
    assert stored["segments"].tolist() == [10] * 8
    assert set(result["baselines"]) == {"frequent_classes", "nothing"}
    assert set(result["baselines"]["frequent_classes"]["classes"]) <= {"Dog", "Violin_fiddle", "Helicopter"}
    assert result["baselines"]["nothing"]["segment_event_av"] == 0
    app = Typer()
    app.command()(evaluate_command)
    shown = CliRunner().invoke(app, ["--run", str(parsing_run)])
    assert shown.exit_code == 0, shown.output
    for name in ("segment_type_av", "event_event_av", "frequent classes", "nothing"):
        assert name in shown.stdout
    assert f"{result['metrics']['segment_type_av']:.4f}" in shown.stdout


def test_epochs_are_chosen_by_segment_type_av(parsing_run):
    records = [json.loads(line) for line in (parsing_run / runs.EPOCHS).read_text().splitlines()]
    best = max(records, key=lambda record: (record["val_segment_type_av"], -record["epoch"]))
    result = evaluate(parsing_run, "val")
    assert (result["epoch"], result["selected_by"]) == (best["epoch"], "val segment_type_av, highest")
    assert result["metrics"]["segment_type_av"] == pytest.approx(best["val_segment_type_av"])


def test_training_has_no_dense_events_and_is_not_scored(parsing_run, toy_parsing):
    dataset = load_dataset("llp", toy_parsing.root)
    assert len(learnable(dataset)) == 24
    assert labelled(dataset, "train") == ()
    with pytest.raises(UsageError, match="no sample with dense events in split train"):
        evaluate(parsing_run, "train")


def test_it_learns(toy_parsing, tmp_path):
    more = ("width=32", "epochs=12", "lr=1e-2", "dropout=0")
    run = train(TrainOptions(cache=toy_parsing.cache, method="linear", run=tmp_path / "run", overrides=more))
    result = evaluate(run)
    for metric in ("segment_type_av", "segment_event_av"):
        assert result["metrics"][metric] > result["baselines"]["frequent_classes"][metric] + 0.05


def test_a_stopped_run_goes_on_to_the_same_weights(toy_parsing, tmp_path, monkeypatch):
    wanted = {"cache": toy_parsing.cache, "method": "linear", "checkpoint_seconds": 0.0}
    whole = train(TrainOptions(**wanted, run=tmp_path / "whole", overrides=SMALL))

    def stop(self, epoch, step, value, rate, add=StepLog.add):
        add(self, epoch, step, value, rate)
        if (epoch, step) == (2, 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StepLog, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            train(TrainOptions(**wanted, run=tmp_path / "stopped", overrides=SMALL))
    stopped = train(TrainOptions(cache=toy_parsing.cache, run=tmp_path / "stopped", resume=True))
    assert (whole / runs.STEPS).read_text() == (stopped / runs.STEPS).read_text()
    ours, theirs = (checkpoint.read(run / runs.LAST)[0] for run in (whole, stopped))
    assert all(ours[key].equal(theirs[key]) for key in ours)


def test_one_modality_and_epochs_chosen_on_test_and_missing_clips(make_toy, tmp_path):
    toy = make_toy["parsing"](tmp_path / "toy", lacking=(2, 33), modalities=("audio",))
    more = ("width=16", "heads=4", "epochs=1", "select=test")
    run = train(TrainOptions(cache=toy.cache, modality="audio", method="linear", run=tmp_path / "run", overrides=more))
    result = evaluate(run)
    assert (result["protocol"], result["selection"]) == ("llp-official+test-selected", "test")
    assert (result["samples"], result["missing"]) == (8, 1)
    assert "test_segment_type_av" in json.loads((run / runs.EPOCHS).read_text())
    stored = np.load(run / "predictions-test.npz")
    assert (stored["segment_probability"][:, 1] == 0).all()
    assert (stored["segment_probability"][:10, 0] > 0).all()
    assert (stored["segment_probability"][10:20] == 0).all()  # the clip without features
    assert (stored["video_probability"][1] == 0).all()
    again = score("llp", run / "predictions-test.npz", root=toy.root)
    assert ten(again["metrics"]) == ten(result["metrics"])
    assert again["protocol"] == result["protocol"]


def test_importance_of_layers(parsing_run, toy_parsing):
    config = RunConfig.load(parsing_run)
    inputs = find_inputs("llp", toy_parsing.root, toy_parsing.cache)
    samples = labelled(inputs.dataset, "test")
    trained = load_trained(parsing_run, config, inputs.cache, samples, CPU)
    found = shuffle_costs(trained.model, trained.data, config.build_task(samples), batch=3, device=CPU, layers=False)
    assert found.metric == "segment_type_av"
    assert found.base == pytest.approx(evaluate(parsing_run)["metrics"]["segment_type_av"])
    assert [(row.modality, row.tap) for row in found.rows] == [("audio", None), ("visual", None)]


def make_table(base, *, dense=True):
    """A user's own table: clips of 2 to 5 segments, dense events (or none) for val and test; made-up features."""
    rng = np.random.default_rng(3)
    rows, tokens = ["clip,media,split,segments,labels" + ",audio_events,visual_events" * dense], {}
    for number in range(20):
        name, length = f"{'-' if number % 3 == 0 else ''}c{number}", 2 + number % 4
        split = ("train", "train", "train", "val", "test")[number % 5]
        events = f",hum@0-{length - 1},hum@1-{length}" if number % 2 else f",buzz@0-{length},"
        label = "hum" if number % 2 else "buzz"
        rows.append(f"{name},v/{name}.mp4,{split},{length},{label}")
        if dense:
            rows[-1] += ",," if split == "train" else events
        tokens[name] = {"visual": rng.normal(size=(length, 5, 16)), "audio": rng.normal(size=(length, 4, 16))}
        tokens[name]["audio"] += 2 * SOUNDS[number % 2]
        tokens[name]["visual"] += 2 * LOOKS[number % 2]
    (base / "mine.csv").write_text("\n".join(rows) + "\n")
    fill_cache(base / "cache", origin_of(load_dataset(str(base / "mine.csv"))), tokens)
    return base / "mine.csv", base / "cache"


def test_a_table_of_clips_of_different_lengths(tmp_path):
    table, cache = make_table(tmp_path)
    dataset = find_inputs(str(table), None, cache).dataset
    assert (dataset.task, [sample.segments for sample in dataset.samples[:4]]) == ("parsing", [2, 3, 4, 5])
    more = ("width=16", "heads=4", "epochs=1")
    run = train(TrainOptions(dataset=str(table), cache=cache, method="linear", run=tmp_path / "run", overrides=more))
    result = evaluate(run)
    assert (result["samples"], result["missing"]) == (4, 0)
    stored = np.load(run / "predictions-test.npz")
    assert stored["segments"].tolist() == [sample.segments for sample in dataset.split("test")]
    again = score(str(table), run / "predictions-test.npz")
    assert ten(again["metrics"]) == ten(result["metrics"])


def test_a_table_with_weak_labels_alone_is_learned_and_not_scored(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    table, cache = make_table(tmp_path, dense=False)
    more = ("width=16", "heads=4", "epochs=2")
    run = train(TrainOptions(dataset=str(table), cache=cache, method="linear", run=tmp_path / "run", overrides=more))
    assert "no sample of val has dense events: no epoch is validated, the last one is kept" in said
    assert checkpoint.read(run / runs.BEST)[1]["epoch"] == 2
    with pytest.raises(UsageError, match="no sample with dense events in split test"):
        evaluate(run)
