"""`avpipe bench train`: rows in processes of their own, on the real training code; what fails is said."""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avpipe.cli import bench_train
from avpipe.cli.main import app
from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.backbones.reopen import open_trunk
from avpipe.stages.bench import child
from avpipe.stages.bench.memory import SAMPLE_SECONDS, Watch, resident
from avpipe.stages.bench.pairs import ROWS, pair_of, settings_of
from avpipe.stages.bench.ratios import TIMES, ratios
from avpipe.stages.bench.rerun import Rerun
from avpipe.stages.bench.train import TrainBench, busy_in_words, run
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.model import build_model, model_spec
from avpipe.stages.runs import RunConfig

PROMISED = {"name", "pair", "batch", "device", "step_s", "epoch_s", "peak_mib", "base_mib", "trainable"}
FIELDS = PROMISED | {
    *("residency", "step_cpu_s", "forward_s", "steps", "threads", "settings", "peak_anon_mib", "base_anon_mib"),
}


@pytest.fixture
def processes(monkeypatch) -> list[list[str]]:
    """Commands of the processes that are started."""
    started, really = [], subprocess.run

    def start(command, **options):
        started.append(command)
        return really(command, **options)

    monkeypatch.setattr(subprocess, "run", start)
    return started


def _bench(folder, *options: str) -> tuple[int, dict]:
    short = ["--folder", str(folder), "--seconds", "0", "--steps", "1", "--device", "cpu", "--threads", "1"]
    done = CliRunner().invoke(app, ["bench", "train", "--json", *short, *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def test_a_row_is_measured(tmp_path, processes):
    options = ["--pair", "demo", "--rows", "cached", "--batches", "1"]
    code, found = _bench(tmp_path, *options, "--clips", "1", "--segments", "2")
    assert (code, found["failed"]) == (0, [])
    [row] = found["rows"]
    assert row.keys() == FIELDS
    assert (row["name"], row["pair"], row["batch"], row["device"]) == ("cached", "demo", 1, "cpu")
    assert 0 < row["forward_s"] < row["step_s"] < row["epoch_s"]
    assert 0 < row["base_mib"] < row["peak_mib"]
    assert row["steps"] == row["threads"] == 1
    assert {"meta_tokens=4", "heads=8", "rank=64", "branches=both"} <= set(row["settings"])
    assert len(processes) == 2  # clips, and a process for each row
    assert list(tmp_path.iterdir()) == []


def test_rows_that_fail_are_named_with_the_reason(tmp_path, monkeypatch):
    def ended(command, *, stderr, **options):
        order, result = (Path(each) for each in command[3:5])
        asked = json.loads(order.read_text())
        if asked["do"] == "make":
            result.write_text(json.dumps({"device": "cpu"}))
            return subprocess.CompletedProcess(command, 0)
        stderr.write(b"a warning\nresidency gpu needs a GPU\n")
        return subprocess.CompletedProcess(command, 6 if asked["batch"] == 1 else -9)

    monkeypatch.setattr(subprocess, "run", ended)
    code, found = _bench(tmp_path, "--pair", "demo", "--rows", "cached", "--residency", "gpu", "--batches", "1,2")
    assert (code, found["rows"], found["ratios"]) == (1, [], [])
    about = {"name": "cached", "pair": "demo", "residency": "gpu"}
    killed = "killed by signal 9, as where memory runs out"
    reasons = {1: "residency gpu needs a GPU", 2: killed}
    assert found["failed"] == [{**about, "batch": batch, "reason": reason} for batch, reason in reasons.items()]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
@pytest.mark.parametrize(("number", "code", "left"), [(signal.SIGTERM, 143, 0), (signal.SIGKILL, -9, 1)])
def test_ended_from_outside_no_process_is_left_and_by_sigterm_no_file(tmp_path, number, code, left):
    options = ["--pair", "demo", "--clips", "500", "--folder", str(tmp_path)]  # clips take much longer than this test
    command = [sys.executable, "-c", "from avpipe.cli.main import run; run()", "bench", "train", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        assert _soon(lambda: children.read_text().split())
        [child] = (Path("/proc", each) for each in children.read_text().split())
        bench.send_signal(number)
        assert bench.wait(30) == code
    assert _soon(lambda: not child.exists() or "State:\tZ" in (child / "status").read_text())
    assert len(list(tmp_path.iterdir())) == left


def _soon(true: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.slow
def test_every_row_on_the_demo_pair(tmp_path, processes):
    code, found = _bench(tmp_path, "--pair", "demo", "--clips", "2", "--batches", "1,2")
    assert (code, found["failed"]) == (0, [])
    assert [(row["name"], row["batch"]) for row in found["rows"]] == [(name, b) for name in ROWS for b in (1, 2)]
    assert len(processes) == 1 + len(found["rows"])
    assert all(row.keys() == FIELDS for row in found["rows"])
    rows = {(row["name"], row["batch"]): row for row in found["rows"]}
    assert rows["cached", 1]["trainable"] == rows["rerun", 2]["trainable"] != rows["lavish", 1]["trainable"]
    assert rows["mti_resumed", 1]["trainable"] == rows["mti_full", 1]["trainable"] > rows["decoder", 1]["trainable"]
    assert len(found["ratios"]) == 2 * (2 + 3)


def test_backbones_run_again_give_what_the_cache_holds(media_run):
    cache = open_cache(RunConfig.load(media_run).cache)
    config = TrainConfig(width=16, rank=16, meta_tokens=2)
    spec = model_spec(cache, config, "events", 4)
    clips = list(cache.clips())[:2]
    samples = [Sample(clip, clip, "train", segments=10) for clip in clips]

    def batch(taps, media, order):
        return ClipFeatures(FeatureStore(cache, taps, clips, residency="disk", media=media), samples)[order]

    model = build_model(spec, config).eval()
    trunks = {modality: open_trunk(cache.specs[modality], device="cpu") for modality in spec.shapes}
    rerun = Rerun(model, spec, trunks).eval()
    assert set(rerun.state_dict()) == {f"model.{name}" for name in model.state_dict()}
    with torch.no_grad():
        expected = model(batch({m: tuple(taps) for m, taps in spec.shapes.items()}, (), [0, 1]))
        found, other = (rerun(batch({}, tuple(spec.shapes), order)) for order in ([0, 1], [1, 0]))
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 0.02 * scale  # the cache is in float16
    assert (other - expected).abs().max() > 0.05 * scale


def test_memory_is_told_apart_from_mapped_files(tmp_path):
    size = 64 << 20
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    with Watch() as mapped, file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert not np.frombuffer(view, np.uint8)[::4096].any()
        _sampled()
    with Watch() as own:
        values = np.ones(size, np.uint8)
        _sampled()
        del values
    assert mapped.peak - mapped.base > 60
    assert mapped.peak_anon - mapped.base_anon < 30
    assert own.peak - own.base > 60
    assert own.peak_anon - own.base_anon > 60
    with pytest.raises(EnvironmentLacking, match="VmNothing"):
        resident("VmNothing")


def _sampled() -> None:
    time.sleep(10 * SAMPLE_SECONDS)


def test_ratios_are_of_one_batch_and_of_memory_above_base():
    def row(name: str, batch: int, seconds: float, peak: float) -> dict:
        times = {f"{kind}_s": seconds for kind in TIMES}
        memory = {"peak_mib": peak, "base_mib": 100.0, "peak_anon_mib": peak, "base_anon_mib": 50.0}
        about = {"name": name, "pair": "p", "batch": batch, "residency": "disk", "device": "cpu"}
        return {**about, **times, **memory}

    rows = [row("cached", 1, 0.5, 200), row("cached", 8, 1, 200), row("rerun", 1, 10, 300), row("lavish", 1, 20, 900)]
    found = ratios([*rows, row("mti_full", 1, 8, 100)])
    assert [(r["row"], r["to"], r["batch"]) for r in found] == [("cached", "rerun", 1), ("cached", "lavish", 1)]
    assert [r["step_times"] for r in found] == [20, 40]
    assert [r["memory_share"] for r in found] == [0.5, 0.125]
    assert [r["memory_anon_share"] for r in found] == [0.6, round(150 / 850, 3)]


def test_pairs_rows_and_settings():
    assert pair_of("test_vit+htsat").audio.model == "htsat"
    assert pair_of("vit_base").audio.front_end == "lavish"
    assert "inject_at=last:3" in settings_of("mti_resumed", 12)
    assert "inject_at=last:6" in settings_of("mti_full", 24)
    gpu = TrainBench(".", rows=("rerun", "cached"), batches=(1,)).planned("cuda:0")
    assert gpu == [("cached", 1, "disk"), ("cached", 1, "ram"), ("cached", 1, "gpu"), ("rerun", 1, "disk")]


def test_batches_of_more_clips_than_there_are_are_left_out():
    few = TrainBench(".", clips=2)
    assert few.left_out() == (8,)
    rows = [(name, batch) for name, batch, _ in few.planned("cpu")]
    assert rows[:4] == [("cached", 1), ("rerun", 1), ("lavish", 1), ("lavish", 2)]
    assert TrainBench(".", clips=8).left_out() == TrainBench(".", clips=2, batches=(2,)).left_out() == ()


def test_a_busy_machine_is_named(monkeypatch, capsys):
    assert busy_in_words(2.0, 2) == ""
    found = {"rows": [], "ratios": [], "failed": [], "clips": 1, "segments": 1, "load_average": 8.6, "cores": 2}
    monkeypatch.setattr(bench_train.render, "table", lambda columns, rows: None)
    bench_train._print(found)
    assert "the machine was busy (load 8.6 on 2 cores): times are not to be trusted" in capsys.readouterr().out


def test_the_table_is_named_as_the_figures_are():
    assert set(bench_train.COLUMNS) <= FIELDS


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_nothing_is_made_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr("avpipe.stages.bench.material.write", lambda *_: pytest.fail("clips were made"))
    with pytest.raises(EnvironmentLacking, match="torch finds 0 GPUs"):
        child._make(
            {"do": "make", "pair": "demo", "device": "cuda", "folder": str(tmp_path), "clips": 1, "segments": 1}
        )
    assert list(tmp_path.iterdir()) == []


def test_refuses_what_cannot_work(tmp_path):
    for wrong, words in (
        ({"pairs": ("vit_bse",)}, "did you mean 'vit_base'"),
        ({"rows": ("cashed",)}, "did you mean 'cached'"),
        ({"batches": (1, 9)}, "batches of 9 clips: there are 8, see --clips"),
        ({"batches": (0,)}, "batches must be 1 or more, not 0"),
        ({"threads": -3}, "threads must be .* not -3"),
        ({"pairs": ()}, "pair: name one"),
        ({"seconds": float("nan")}, "seconds must be .* not nan"),
        ({"residency": ("tape",)}, "unknown residency"),
        ({"clips": 0}, "clips must be 1 or more"),
    ):
        with pytest.raises(UsageError, match=words):
            TrainBench(tmp_path, **wrong)
    with pytest.raises(UsageError, match="no folder"):
        run(TrainBench(tmp_path / "nothing"))
    with pytest.raises(EnvironmentLacking, match="--clips"):
        run(TrainBench(tmp_path, clips=10**6))
    assert list(tmp_path.iterdir()) == []
