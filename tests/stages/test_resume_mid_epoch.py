"""Killed within epochs, again and again, a run comes to the same losses and the same weights, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from avpipe.pipeline.errors import CacheMismatch, CorruptionFound, UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import ClipFeatures
from avpipe.stages.step_log import StepLog
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_loop import Trainer

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "dropout=0.3", "batch=2")
TIMES = ("train_seconds", "wait_seconds", "val_seconds", "peak_rss_mib")


@pytest.fixture
def toy(request, toy_events, toy_masks):
    """The toy that a test is parametrised with."""
    return {"events": toy_events, "masks": toy_masks}[request.param]


both = pytest.mark.parametrize("toy", ["events", "masks"], indirect=True)


def options(toy, run, epochs=4, **others):
    return TrainOptions(cache=toy.cache, run=run, overrides=(*SMALL, f"epochs={epochs}"), **others)


def steps_of(run):
    return [json.loads(line) for line in (run / runs.STEPS).read_text().splitlines()]


def epochs_of(run):
    records = [json.loads(line) for line in (run / runs.EPOCHS).read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def assert_equal_runs(run, other):
    """Losses of every step, records of every epoch, every tensor of both checkpoints, scores on test."""
    assert steps_of(run) == steps_of(other)
    assert epochs_of(run) == epochs_of(other)
    for name in (runs.LAST, runs.BEST):
        (ours, _), (theirs, _) = checkpoint.read(run / name), checkpoint.read(other / name)
        assert list(ours) == list(theirs)
        assert all(ours[key].equal(theirs[key]) for key in ours), name
    assert evaluate(run)["metrics"] == evaluate(other)["metrics"]


def train_until_killed(wanted, steps, delay):
    """Trains in a child that is killed `delay` seconds after the log has `steps` steps; returns its exit status."""
    child = os.fork()
    if child == 0:
        try:
            train(wanted)
            os._exit(0)
        except BaseException:
            os._exit(1)
    log, deadline = wanted.run / runs.STEPS, time.monotonic() + 60
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            pytest.fail("the child ended by itself: it was to be killed")
        if log.exists() and log.read_bytes().count(b"\n") >= steps:
            break
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


@both
def test_killed_at_random_steps_and_resumed_equals_unbroken(toy, tmp_path):
    """Three kills in 48 steps, at random; every step is in a checkpoint, so hardly anything is done twice."""
    dice, run, begun = random.Random(toy.name), tmp_path / "run", []
    whole = train(options(toy, tmp_path / "whole"))
    for number in range(3):
        wanted = options(toy, run, resume=number > 0, checkpoint_seconds=0)
        status = train_until_killed(wanted, 14 * number + dice.randrange(2, 13), dice.random() * 0.02)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        facts = checkpoint.read(run / runs.LAST)[1]
        begun.append(facts["running"] and facts["running"]["step"])
        assert len(steps_of(run)) - facts["steps"] <= 1
    assert any(begun)  # at least one kill was within an epoch
    train(options(toy, run, resume=True, residency="disk"))
    assert len(steps_of(run)) == 4 * 12
    assert_equal_runs(run, whole)


@pytest.mark.slow
@both
def test_ten_kills_of_the_program(toy, tmp_path):
    """The same with the program itself, checkpoints every 0.05 s, features on disk, block shuffle."""
    settings = (*SMALL, "epochs=80", "shuffle=block", "block_units=2")
    dice, run = random.Random(toy.name), tmp_path / "run"
    arguments = ["--cache", str(toy.cache), "--run", str(run), "--checkpoint-seconds", "0.05", "--residency", "disk"]
    kills = 0
    for number in range(10):
        extra = ["--resume"] if number else list(settings)
        program = [str(Path(sys.executable).with_name("avpipe")), "train", *arguments, *extra]
        log = tmp_path / "log"
        with log.open("w") as output:
            child = subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=output, stdout=output)
        before = len(steps_of(run)) if run.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            if (run / runs.STEPS).exists() and len(steps_of(run)) > before + dice.randrange(20, 60):
                break
        time.sleep(dice.random() * 0.1)
        kills += child.poll() is None
        child.kill()
        child.wait()
    assert kills == 10, log.read_text()
    train(TrainOptions(cache=toy.cache, run=run, resume=True))
    assert_equal_runs(run, train(TrainOptions(cache=toy.cache, run=tmp_path / "whole", overrides=settings)))


def test_what_a_checkpoint_within_an_epoch_holds(toy_events, tmp_path, monkeypatch):
    """Stopped in the fifth step of the second epoch, after four of it were kept."""
    step = Trainer._step

    def stop(trainer, batch, rate):
        if trainer.running.epoch == 2 and trainer.running.step == 4:
            raise KeyboardInterrupt
        return step(trainer, batch, rate)

    monkeypatch.setattr(Trainer, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(options(toy_events, tmp_path / "run", checkpoint_seconds=0))
    tensors, facts = checkpoint.read(tmp_path / "run" / runs.LAST)
    log = steps_of(tmp_path / "run")
    assert [(entry["epoch"], entry["step"]) for entry in log] == [(1, n) for n in range(1, 13)] + [
        (2, n) for n in range(1, 5)
    ]
    assert (facts["epoch"], len(facts["history"]), facts["steps"]) == (1, 1, 16)
    running = facts["running"]
    assert (running["epoch"], running["step"], running["samples"], running["lr"]) == (2, 4, 8, log[-1]["lr"])
    assert running["loss"] == pytest.approx(2 * sum(entry["loss"] for entry in log[-4:]))
    assert running["seconds"] > running["waited"] > 0
    assert tensors["rng.cpu"].equal(torch.get_rng_state())
    monkeypatch.setattr(Trainer, "_step", step)
    (tmp_path / "run" / runs.BEST).unlink()  # it holds other weights than the last checkpoint now: not to be remade
    with pytest.raises(UsageError, match=r"no checkpoint .*best"):
        train(TrainOptions(run=tmp_path / "run", resume=True))


@pytest.mark.parametrize("shuffle", ["full", "block"])
@pytest.mark.parametrize("change", ["a clip more", "other units"])
def test_within_an_epoch_another_order_is_refused(toy_events, make_toy, tmp_path, monkeypatch, shuffle, change):
    """Of a cache that grew, some samples would come twice in the epoch and others never."""
    lacking = (3,) if change == "a clip more" else ()
    toy = make_toy["events"](tmp_path, lacking=lacking)
    run, step = tmp_path / "run", Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda t, *args: step(t, *args) if t.running.step < 5 else 1 / 0)
    settings = (*SMALL, "epochs=2", f"shuffle={shuffle}", "block_units=1")
    with pytest.raises(ZeroDivisionError):
        train(TrainOptions(cache=toy.cache, run=run, overrides=settings, checkpoint_seconds=0))
    monkeypatch.setattr(Trainer, "_step", step)
    other = toy_events.cache
    if change == "other units":
        units = ClipFeatures.units.fget
        monkeypatch.setattr(ClipFeatures, "units", property(lambda data: units(data)[::-1]))
    if (change, shuffle) == ("other units", "full"):  # where clips lie does not matter then
        train(TrainOptions(cache=other, run=run, resume=True))
        return
    with pytest.raises(CacheMismatch, match=r"stopped within epoch 1, after 5 steps.*or train again"):
        train(TrainOptions(cache=other, run=run, resume=True))
    assert len(steps_of(run)) == 5  # nothing was touched: the right cache goes on
    monkeypatch.undo()
    train(TrainOptions(cache=toy.cache, run=run, resume=True))
    assert_equal_runs(run, train(TrainOptions(cache=toy.cache, run=tmp_path / "whole", overrides=settings)))


def test_the_best_epoch_is_not_overwritten_by_weights_of_a_running_one(toy_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_validate", lambda trainer: 0.1 * len(trainer.history))  # the last is the best
    step = Trainer._step
    monkeypatch.setattr(
        Trainer, "_step", lambda t, *args: step(t, *args) if t.running.step < 5 or t.running.epoch < 3 else 1 / 0
    )
    run = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        train(options(toy_events, run, checkpoint_seconds=0))
    monkeypatch.setattr(Trainer, "_step", step)
    best = (run / runs.BEST).read_bytes()
    assert checkpoint.read(run / runs.BEST)[1]["epoch"] == 2
    monkeypatch.setattr(Trainer, "_steps", lambda trainer, running: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(TrainOptions(run=run, resume=True))
    assert (run / runs.BEST).read_bytes() == best


def test_checkpoints_within_an_epoch_only_after_so_many_seconds(toy_events, tmp_path, monkeypatch):
    """A short training writes one checkpoint an epoch, as if there were no others."""
    written, save = [], checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, *args, **more: written.append((path.name, more)) or save(path, *args, **more)
    )
    train(options(toy_events, tmp_path / "usual", epochs=2))
    assert [more["random"] for name, more in written if name == runs.LAST] == [False] * 2
    written.clear()
    train(options(toy_events, tmp_path / "often", epochs=2, checkpoint_seconds=0))
    assert [more["random"] for name, more in written if name == runs.LAST] == ([True] * 12 + [False]) * 2


def test_a_run_that_was_killed_before_any_checkpoint_starts_again(toy_events, tmp_path, monkeypatch):
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda t, *args: step(t, *args) if t.running.step < 5 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(options(toy_events, tmp_path / "run", epochs=2))
    monkeypatch.setattr(Trainer, "_step", step)
    assert len(steps_of(tmp_path / "run")) == 5
    train(TrainOptions(run=tmp_path / "run", resume=True))
    assert_equal_runs(tmp_path / "run", train(options(toy_events, tmp_path / "whole", epochs=2)))


def test_a_torn_checkpoint_is_refused(toy_events, tmp_path):
    run = train(options(toy_events, tmp_path / "run", epochs=1))
    whole = (run / runs.LAST).read_bytes()
    (run / runs.LAST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptionFound, match="not a sound checkpoint"):
        train(TrainOptions(run=run, resume=True))


def test_step_log_keeps_what_the_checkpoint_knows(tmp_path):
    path = tmp_path / "steps.jsonl"
    with StepLog(path, 0) as log:
        for step in range(1, 6):
            log.add(1, step, 0.1 * step, 1e-3)
        assert log.lines == len(path.read_text().splitlines()) == 5  # seen at once
    with path.open("a") as file:
        file.write('{"epoch": 1, "st')  # the end of a machine
    with StepLog(path, 3) as log:
        log.add(1, 4, 7.0, 1e-3)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in found] == [(1, 0.1), (2, 0.2), (3, 0.1 * 3), (4, 7.0)]
    path.write_text(path.read_text() + "{")
    with StepLog(path, 9) as log:  # fewer than there should be: whole lines stay
        assert log.lines == 4
    assert path.read_text().endswith("}\n")
    with StepLog(path, 0) as log:
        assert (log.lines, path.read_text()) == (0, "")
