"""Training on toys: it learns, goes on after any stop as if nothing had been, and refuses what it should."""

import json
import shutil
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from avpipe.pipeline import progress
from avpipe.pipeline.errors import AvpipeError, CacheMismatch, CorruptionFound, UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages import checkpoint, runs
from avpipe.stages.best import best_epoch, selected_by
from avpipe.stages.config import TrainConfig
from avpipe.stages.evaluate import evaluate
from avpipe.stages.optimizer import learning_rate
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import say_missing
from avpipe.stages.train_loop import Trainer

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2")


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVPIPE_CACHE", raising=False)
    monkeypatch.delenv("AVPIPE_DATA", raising=False)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def options(toy, *overrides, **others):
    return TrainOptions(cache=toy.cache, overrides=(*SMALL, *overrides), **others)


def epochs_of(run):
    """Epoch records without what differs from run to run: times and memory."""
    records = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    for record in records:
        for key in ("train_seconds", "wait_seconds", "val_seconds", "peak_rss_mib"):
            assert record.pop(key) >= 0
    return records


def tensors_of(run, name=runs.LAST):
    return {key: value.tolist() for key, value in checkpoint.read(run / name)[0].items()}


@pytest.mark.parametrize("method", ["mettle", "linear"])
def test_events_are_learned(toy_events, method):
    run = train(TrainOptions(cache=toy_events.cache, method=method, overrides=("epochs=8",)))
    records = epochs_of(run)
    assert [r["epoch"] for r in records] == list(range(1, 9))
    assert records[-1]["train_loss"] < 0.3 * records[0]["train_loss"]
    assert max(r["val_accuracy"] for r in records) > 0.8
    assert run.parent == Path("runs")
    assert run.name.endswith(f"-ave-distill-{method}")
    assert {p.name for p in run.iterdir()} == {
        *(runs.CONFIG, runs.ENVIRONMENT, runs.SAMPLES, runs.EPOCHS, runs.STEPS, runs.BEST, runs.LAST)
    }


def test_masks_are_learned(toy_masks):
    run = train(TrainOptions(cache=toy_masks.cache, overrides=("epochs=20",)))
    records = epochs_of(run)
    assert records[-1]["train_loss"] < 0.5 * records[0]["train_loss"]
    assert max(r["val_miou"] for r in records) > 0.4
    config = yaml.safe_load((run / runs.CONFIG).read_text())
    assert config["dataset"] == "avsbench-ms3"
    assert set(map(tuple, config["model"]["grids"].values())) == {(4, 4)}
    assert config["model"]["mask_size"] == [32, 32]


@pytest.mark.parametrize("kind", ["events", "masks"])
def test_same_seed_same_run_other_seed_other_run(toy_events, toy_masks, kind):
    toy = toy_events if kind == "events" else toy_masks
    first, again, other = (
        train(options(toy, "epochs=2", f"seed={seed}", run=Path(name))) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert epochs_of(first) == epochs_of(again)
    assert tensors_of(first) == tensors_of(again)
    assert epochs_of(first) != epochs_of(other)


def test_every_epoch_trains_on_every_sample_in_an_order_of_its_own(toy_events, monkeypatch):
    seen, step = [], Trainer._step

    def watch(trainer, batch, rate):
        assert trainer.model.training
        seen.append(batch.indices)
        return step(trainer, batch, rate)

    monkeypatch.setattr(Trainer, "_step", watch)
    for seed in (0, 1):
        train(options(toy_events, "epochs=2", f"seed={seed}", run=Path(str(seed))))
    orders = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in range(0, 12, 3)]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.fixture(scope="module")
def unbroken(toy_events, tmp_path_factory):
    """Three epochs without a stop."""
    return train(options(toy_events, "epochs=3", run=tmp_path_factory.mktemp("unbroken") / "run"))


def assert_equal_runs(run, other):
    assert epochs_of(run) == epochs_of(other)
    for name in (runs.LAST, runs.BEST):
        assert tensors_of(run, name) == tensors_of(other, name)


@pytest.mark.parametrize("writes", range(2, 9))
def test_stopped_before_any_write_and_resumed_equals_unbroken(toy_events, unbroken, monkeypatch, writes):
    """Two files at the start, then two or three an epoch: every place between them."""
    real, left = checkpoint.write_atomic, [writes]

    def write(path, data):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(path, data)

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    monkeypatch.setattr(runs, "write_atomic", write)
    with pytest.raises(KeyboardInterrupt):
        train(options(toy_events, "epochs=3", run=Path("run")))
    left[0] = 1000
    if Path("run", runs.BEST).exists():  # no epoch that the history does not know, whatever stopped the run
        known = checkpoint.read(Path("run", runs.LAST))[1]["history"]
        assert checkpoint.read(Path("run", runs.BEST))[1]["epoch"] in [record["epoch"] for record in known]
    assert train(TrainOptions(run=Path("run"), resume=True)) == Path("run")
    assert_equal_runs(Path("run"), unbroken)


def test_resuming_brings_the_best_checkpoint_up_to_the_history(toy_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_validate", lambda trainer: 0.1 * len(trainer.history))  # the last is the best
    run = train(options(toy_events, "epochs=2", run=tmp_path / "run"))
    whole = (run / runs.BEST).read_bytes()
    earlier = train(options(toy_events, "epochs=1", run=tmp_path / "earlier")) / runs.BEST
    for content in (earlier.read_bytes(), None, whole[:1000]):  # a stop before it was written, lost, damaged
        (run / runs.BEST).unlink()
        if content is not None:
            (run / runs.BEST).write_bytes(content)
        train(TrainOptions(run=run, resume=True))
        assert (run / runs.BEST).read_bytes() == whole


def test_a_best_checkpoint_of_another_epoch_is_not_passed_over(toy_events, tmp_path, monkeypatch):
    scores = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(Trainer, "_validate", lambda trainer: next(scores))
    run = train(options(toy_events, "epochs=3", run=tmp_path / "run"))
    train(TrainOptions(run=run, resume=True))
    shutil.copy(run / runs.LAST, run / runs.BEST)
    with pytest.raises(CorruptionFound, match="holds epoch 3, the history of the run has epoch 2 as the best"):
        train(TrainOptions(run=run, resume=True))


def test_without_features_for_validation_the_last_epoch_is_kept(make_toy, tmp_path, said):
    toy = make_toy["events"](tmp_path / "toy", lacking=tuple(range(24, 32)))  # all of val
    run = train(options(toy, "epochs=3"))
    assert [record["val_accuracy"] for record in epochs_of(run)] == [None] * 3
    result = evaluate(run)
    assert result["epoch"] == 3
    assert result["selected_by"] == "last epoch: no validation sample with features"
    assert any("no epoch is validated, the last one is kept" in line for line in said)
    assert any(line.startswith("kept: epoch 3 of 3 (last epoch: no validation sample with features)") for line in said)


def test_resuming_a_finished_run_says_so(toy_events, unbroken, said):
    before = (unbroken / runs.LAST).read_bytes()
    train(TrainOptions(run=unbroken, resume=True))
    assert any("is finished: 3 of 3 epochs" in line for line in said)
    assert (unbroken / runs.LAST).read_bytes() == before


def test_resume_refuses_what_would_change_the_run(toy_events, toy_masks, unbroken, make_toy, tmp_path):
    with pytest.raises(UsageError, match=r"started with epochs=3, it cannot go on with epochs=9"):
        train(TrainOptions(run=unbroken, resume=True, overrides=("epochs=9",)))
    with pytest.raises(UsageError, match=r"started with method=mettle"):
        train(TrainOptions(run=unbroken, resume=True, method="linear"))
    with pytest.raises(UsageError, match="is on ave, not on avsbench"):
        train(TrainOptions(run=unbroken, resume=True, dataset="avsbench"))
    with pytest.raises(UsageError, match="--resume needs --run"):
        train(TrainOptions(resume=True))
    with pytest.raises(UsageError, match=r"is no run folder"):
        train(TrainOptions(run=tmp_path / "nothing", resume=True))
    train(TrainOptions(run=unbroken, resume=True, method="mettle", dataset="ave", overrides=("epochs=3",)))


def test_other_features_are_refused(toy_events, unbroken, fill_cache, tmp_path):
    import numpy as np

    tokens = {"clip": {"visual": np.zeros((10, 17, 16)), "audio": np.zeros((10, 9, 16))}}
    fill_cache(tmp_path / "other", {"name": "ave", "root": str(toy_events.root)}, tokens, weights="two")
    with pytest.raises(CacheMismatch, match="was trained on audio features with fingerprint"):
        train(TrainOptions(run=unbroken, resume=True, cache=tmp_path / "other"))


def test_an_existing_run_is_not_overwritten(toy_events, unbroken, tmp_path):
    before = (unbroken / runs.LAST).read_bytes()
    with pytest.raises(UsageError, match="holds a run: go on with it by --resume"):
        train(options(toy_events, run=unbroken))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="is not empty"):
        train(options(toy_events, run=tmp_path / "full"))
    assert (unbroken / runs.LAST).read_bytes() == before
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_two_runs_in_one_second_get_two_folders(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    found = [runs.new_folder(None, "ave-distill-mettle") for _ in range(3)]
    assert [str(p) for p in found] == [f"runs/20260101-000000-ave-distill-mettle{end}" for end in ("", "-2", "-3")]


def test_without_dataset_the_newest_cache_is_taken_and_named(toy_events, monkeypatch, said):
    monkeypatch.setenv("AVPIPE_CACHE", str(toy_events.cache.parent))
    run = train(TrainOptions(overrides=(*SMALL, "epochs=1")))
    assert f"cache: {toy_events.cache}" in said
    assert "dataset: ave" in said
    assert yaml.safe_load((run / runs.CONFIG).read_text())["root"] == str(toy_events.root)
    named = train(TrainOptions(dataset="ave", overrides=(*SMALL, "epochs=1")))
    assert yaml.safe_load((named / runs.CONFIG).read_text())["cache"] == str(toy_events.cache)


def test_missing_samples_are_left_out_with_one_line(make_toy, tmp_path, said):
    toy = make_toy["events"](tmp_path / "toy", lacking=(0, 2, 5, 7, 25))  # four of train, one of val
    run = train(options(toy, "epochs=1"))
    assert any(line.startswith("4 of 24 training samples have no features (0:aclip") for line in said)
    assert any(line.startswith("1 of 8 validation samples have no features") for line in said)
    assert len(epochs_of(run)) == 1


def test_missing_samples_whose_clips_could_not_be_used_are_counted(said, tmp_path):
    samples = [Sample(f"{i}", f"clip {i // 2}", "train") for i in range(6)]
    cache = SimpleNamespace(path=tmp_path, quarantined=lambda: [SimpleNamespace(clip="clip 0")])
    say_missing("training", cache, samples, [], "left out")
    say_missing("training", cache, samples, ["4", "5"], "left out")
    assert [line.partition(" have ")[0] for line in said] == ["2 of 6 training samples"]
    say_missing("training", cache, samples, ["0", "1", "4"], "left out")
    assert said[2] == f"1 of their clips could not be used; `avpipe quarantine ls --cache {tmp_path}` says why"


def test_says_what_is_lacking(make_toy, toy_events, toy_masks, tmp_path, monkeypatch):
    empty = make_toy["events"](tmp_path / "empty", lacking=tuple(range(24)))
    with pytest.raises(UsageError, match=r"no features of the training samples.*avpipe extract --dataset ave"):
        train(options(empty))
    audio = make_toy["events"](tmp_path / "audio", modalities=("audio",))
    with pytest.raises(UsageError, match=r"no visual features.*avpipe extract"):
        train(options(audio))
    assert train(options(audio, "epochs=1", modality="audio"))
    with pytest.raises(UsageError, match="features of avsbench, not of ave"):
        train(TrainOptions(dataset="ave", cache=toy_masks.cache))
    monkeypatch.setenv("AVPIPE_DATA", str(toy_events.root.parent))
    with pytest.raises(UsageError, match="run `avpipe extract --dataset ave`"):
        train(TrainOptions(dataset="ave"))
    monkeypatch.delenv("AVPIPE_DATA")
    with pytest.raises(UsageError, match=r"looked in:(.|\n)*avpipe data make"):
        train(TrainOptions(dataset="ave"))
    shutil.rmtree(tmp_path / "audio" / "data")
    with pytest.raises(UsageError, match="looked in:"):
        train(options(audio, modality="audio"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"method": "metle"}, "did you mean 'mettle'"),
        ({"modality": "video"}, "unknown modality 'video'"),
        ({"stage": "segment"}, "--stage segment is for data with masks"),
        ({"dataset": "avee"}, "did you mean 'ave'"),
        ({"overrides": ("epoch=1",)}, "did you mean 'epochs'"),
        ({"method": "mettle", "overrides": ("method=linear",)}, "method given twice"),
        ({"device": "gpu"}, "--device 'gpu' is not known"),
        ({"device": "cuda:99"}, "torch sees"),
    ],
)
def test_wrong_requests_leave_nothing_behind(toy_events, tmp_path, wanted, message):
    with pytest.raises(UsageError, match=message):
        train(TrainOptions(cache=toy_events.cache, **wanted))
    assert list(tmp_path.iterdir()) == []


def test_stage_segment_says_what_it_starts_from_and_where_tokens_go(toy_masks, said):
    run = train(options(toy_masks, "epochs=1", "inject=side", "inject_at=blocks.10", "taps=all", stage="segment"))
    assert any(line.startswith("meta-tokens adapt the cached layers before blocks.10") for line in said)
    assert any("runs has no finished distill run of avsbench-ms3" in line for line in said)
    assert run.name.endswith("-avsbench-ms3-segment-mettle")


def test_a_loss_that_is_not_finite_stops_the_run(toy_events):
    with pytest.raises(AvpipeError, match=r"loss is (nan|inf).*lower lr"):
        train(options(toy_events, "epochs=5", "lr=1e30", "clip_norm=1e30"))


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = TrainConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)


def test_best_epoch_is_the_earliest_of_the_highest():
    scores = [0.2, 0.7, 0.5, 0.7]
    history = [{"epoch": i + 1, "val_accuracy": s, "val_seconds": 9.0} for i, s in enumerate(scores)]
    assert best_epoch(history)["epoch"] == 2
    assert selected_by(history) == "val accuracy, highest"
    for unknown in (range(4), [0], [3]):  # in all epochs, or before or after the cache was changed
        partly = [{**r, "val_accuracy": None if i in unknown else r["val_accuracy"]} for i, r in enumerate(history)]
        assert best_epoch(partly)["epoch"] == 4
        assert selected_by(partly).startswith("last epoch")


def test_two_trainings_never_share_a_run_folder(toy_events, tmp_path):
    run = tmp_path / "run"
    train(options(toy_events, "epochs=1", run=run))
    with runs.locked(run), pytest.raises(UsageError, match="another process is training in"):
        train(TrainOptions(run=run, resume=True))
    train(TrainOptions(run=run, resume=True))
