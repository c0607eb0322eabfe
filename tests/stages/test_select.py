"""Epochs are compared on validation unless test is named, and then every score says so."""

import json

import pytest
from typer.testing import CliRunner

from avpipe.cli.main import app
from avpipe.pipeline.errors import UsageError
from avpipe.stages import best, runs
from avpipe.stages.config import TrainConfig, override
from avpipe.stages.evaluate import evaluate
from avpipe.stages.report import make_report
from avpipe.stages.report.scored import read_metrics
from avpipe.stages.scoring import score
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["events", "masks"])
def test_selected_on_test(toy_events, toy_masks, tmp_path, kind):
    toy = toy_events if kind == "events" else toy_masks
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "runs" / "a", overrides=(*SMALL, "select=test")))
    records = [json.loads(line) for line in (run / runs.EPOCHS).read_text().splitlines()]
    metric = "accuracy" if kind == "events" else "miou"
    assert all(f"test_{metric}" in record and f"val_{metric}" not in record for record in records)
    result = evaluate(run)
    chosen = max(records, key=lambda record: (record[f"test_{metric}"], -record["epoch"]))
    assert (result["epoch"], result["selection"]) == (chosen["epoch"], "test")
    assert result["selected_by"] == f"test {metric}, highest"
    names = [result["protocol"], *result.get("other_protocols", {})]
    assert all(name.endswith("+test-selected") for name in names)
    assert [other["protocol"] for other in result.get("other_protocols", {}).values()] == names[1:]
    if kind == "events":
        assert result["metrics"]["accuracy"] == pytest.approx(chosen["test_accuracy"])
    else:
        assert list(result["baselines"]["constant_mask"]["other_protocols"]) == names[1:]
        batch1 = result["other_protocols"]["avsbench-batch1+test-selected"]["miou"]
        assert batch1 == pytest.approx(chosen["test_miou"])
    name = "ave" if kind == "events" else "avsbench-ms3"
    again = score(name, run / "predictions-test.npz", root=toy.root)
    assert (again["selection"], again["protocol"], list(again["other_protocols"])) == ("test", names[0], names[1:])
    for asked in (names[-1], names[-1].removesuffix("+test-selected")):
        assert score(name, run / "predictions-test.npz", root=toy.root, protocol=asked)["protocol"] == names[-1]


def test_never_beside_a_run_selected_on_validation(toy_events, tmp_path):
    for name, more in {"ours": (), "chosen": ("select=test",), "twin": ("select=test", "seed=1")}.items():
        run = train(TrainOptions(cache=toy_events.cache, run=tmp_path / "runs" / name, overrides=(*SMALL, *more)))
        evaluate(run)
    folder = tmp_path / "runs"
    ours = read_metrics(folder / "ours", "test")
    assert (ours["protocol"], ours["selection"]) == ("ave-segment-accuracy", "val")
    made = make_report(folder / "ours", layers=False, clips=0)
    left_out = "Not shown beside this run: chosen, twin (scored by protocol ave-segment-accuracy+test-selected)."
    assert left_out in made.notes
    other = make_report(folder / "chosen", layers=False, clips=0)
    assert any("Not shown beside this run: ours" in note for note in other.notes)
    assert any(note.startswith("The epoch was chosen on the test split (select=test)") for note in other.notes)
    assert not any("twin" in note for note in other.notes)
    page = (folder / "chosen" / "report.html").read_text()
    assert '"score": "test_accuracy"' in page or '"score":"test_accuracy"' in page
    with pytest.raises(UsageError, match=r"cannot be shown: scored by protocol ave-segment-accuracy$"):
        make_report(folder / "chosen", beside=[folder / "ours"], layers=False, clips=0)
    shown = CliRunner().invoke(app, ["evaluate", "--run", str(folder / "chosen")])
    assert "; ave-segment-accuracy+test-selected" in shown.stdout
    stored = folder / "chosen" / "predictions-test.npz"
    told = CliRunner().invoke(
        app,
        ["score", "--dataset", "ave", "--root", str(toy_events.root), "--predictions", str(stored)],
    )
    assert "ave-segment-accuracy+test-selected" in told.stdout
    assert "the epoch was chosen on the test split (select=test)" in told.stdout
    assert "the epoch was chosen on the test split (select=test)" in shown.stdout
    assert "chosen on the test split" not in CliRunner().invoke(app, ["evaluate", "--run", str(folder / "ours")]).stdout
    with pytest.raises(UsageError, match="was started with select=val, it cannot go on with select=test"):
        train(TrainOptions(run=folder / "ours", resume=True, overrides=("select=test",)))


def test_without_features_of_test_the_last_epoch_is_kept_and_not_marked(make_toy, tmp_path):
    toy = make_toy["events"](tmp_path / "toy", lacking=tuple(range(32, 40)))
    run = train(TrainOptions(cache=toy.cache, run=tmp_path / "run", overrides=(*SMALL, "select=test")))
    result = evaluate(run, "val")
    assert (result["epoch"], result["selection"], result["protocol"]) == (2, "last", "ave-segment-accuracy")
    assert result["selected_by"] == "last epoch: no test sample with features"


def test_words():
    history = [{"epoch": 1, "train_loss": 1.0, "test_miou": 0.5, "val_seconds": 1.0}]
    assert best.selection(best.selected_by(history)) == "test"
    assert best.in_short(history[0]) == "loss 1.0000, test miou 0.5000"
    assert best.protocol_name("p", "test") == "p+test-selected"
    assert [best.protocol_name("p", name) for name in ("val", "last")] == ["p", "p"]
    with pytest.raises(UsageError, match="unknown select 'tset': did you mean 'test'"):
        override(TrainConfig(), ["select=tset"])
