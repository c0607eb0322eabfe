"""`avpipe bench extract`: stage one beside its stages alone; definitions, and what is said of rows that fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import slow_media
from typer.testing import CliRunner

from avpipe.cli import bench_extract
from avpipe.cli.main import app
from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.timeline import Timeline
from avpipe.stages import backbones, clip_media
from avpipe.stages.bench import extract as bench_module
from avpipe.stages.bench import extract_cases, extract_measure, material
from avpipe.stages.bench.extract import ExtractBench, bounds_of, run
from avpipe.stages.bench.extract_cases import ExtractRow, made_dataset, sampled
from avpipe.stages.bench.extract_order import ExtractOrder, clip_fields
from avpipe.stages.bench.films import Film, write_film
from avpipe.stages.bench.processor import Stopwatch, machine_seconds, processor_seconds
from avpipe.stages.extract_unit import UnitRunner

TINY = Film(64, 48, frames_per_second=5, seconds=2)
PROMISED = {"name", "wall_s", "decode_alone_s", "backbone_alone_s", "alone_cpu_s", "cores"}
FIELDS = PROMISED | {
    *("about", "visual", "audio", "layers", "device", "decoders", "clips", "rejected", "startup_s", "encode_alone_s"),
    *("decode_cpu_s", "backbone_cpu_s", "encode_cpu_s", "cpu_s", "bound", "ratio", "clips_per_s", "others_share"),
    *("stages", "bottleneck", "content_hash", "equal"),
}


@pytest.fixture
def tiny_rows(monkeypatch):
    """Rows that take next to no time."""
    rows = {name: replace(row, film=TINY, model="test_vit", clips=1) for name, row in extract_cases.ROWS.items()}
    monkeypatch.setattr(extract_cases, "ROWS", rows)


@pytest.fixture
def here(monkeypatch, tiny_rows):
    """Measurements run in this process, which has torch already."""
    measures = {"together": extract_measure.measure_together, "alone": extract_measure.measure_alone}

    def measured(folder: Path, order: dict) -> tuple[dict, str]:
        order = json.loads(json.dumps(order))
        return json.loads(json.dumps(measures[order.pop("do")](ExtractOrder(**order)))), ""

    monkeypatch.setattr(bench_module, "in_a_process", measured)


def _bench(folder: Path, *options: str) -> tuple[int, dict]:
    short = ["--folder", str(folder), "--device", "cpu", "--decoders", "1", "--layers", "last:1"]
    done = CliRunner().invoke(app, ["bench", "extract", "--json", *short, *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def test_a_row_is_measured(tmp_path, here, monkeypatch):
    loads, load = [], backbones.load
    monkeypatch.setattr(backbones, "load", lambda *given: loads.append(given) or load(*given))
    code, found = _bench(tmp_path, "--rows", "decode_bound", "--clips", "3")
    assert (code, found["failed"], found["equal"]) == (0, [], True)
    [row] = found["rows"]
    assert row.keys() == FIELDS
    assert (row["clips"], row["rejected"], row["decoders"], row["visual"]) == (3, 0, 1, "test_vit")
    assert len(loads) == 4  # two for each measurement: what is measured is warm
    stages = {stage["name"]: stage for stage in row["stages"]}
    assert stages.keys() == {"decode", "backbone", "encode", "write", "commit"}
    assert stages["decode"]["clips"] == 3  # and not the one that warmed the decoder up
    assert 0 < stages["decode"]["busy_seconds"] < row["wall_s"]
    cpu = [row[f"{stage}_cpu_s"] for stage in ("decode", "backbone", "encode")]
    assert row["alone_cpu_s"] == pytest.approx(sum(cpu), abs=0.001)
    assert min(*cpu, row["cpu_s"], row["startup_s"], row["encode_alone_s"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_every_decoder_is_warm_before_the_clock_runs(tmp_path, here, monkeypatch):
    """In both measurements: each has decoded a clip."""
    events, running = [], Stopwatch.running

    class Watched(DecodePool):
        def submit(self, clip):
            future = super().submit(clip)
            future.add_done_callback(lambda done: events.append("decoded"))
            return future

    monkeypatch.setattr(clip_media, "DecodePool", Watched)
    monkeypatch.setattr(Stopwatch, "running", lambda watch: events.append("clock") or running(watch))
    code, _ = _bench(tmp_path, "--rows", "decode_bound", "--clips", "3", "--decoders", "2")
    together, alone = events.index("clock"), events.index("clock", events.index("clock") + 1)
    assert (code, events[:together]) == (0, 2 * ["decoded"])
    assert events[together + 1 : alone] == 5 * ["decoded"], "three of the run, two of warming up"


def test_stored_frames_are_not_decoded(tmp_path, here, monkeypatch):
    pools, make = [], clip_media.DecodePool
    monkeypatch.setattr(clip_media, "DecodePool", lambda *given, **named: pools.append(1) or make(*given, **named))
    code, found = _bench(tmp_path, "--rows", "predecoded", "--clips", "2")
    [row] = found["rows"]
    assert (code, row["clips"], row["equal"]) == (0, 2, True)
    assert {stage["name"] for stage in row["stages"]} == {"read", "backbone", "encode", "write", "commit"}
    assert len(pools) == 2  # each cache is filled once, before its measurement


@pytest.mark.parametrize("slow", ["decode", "backbone"])
def test_the_slow_stage_is_the_bound(tmp_path, here, monkeypatch, slow):
    if slow == "decode":
        late = partial(DecodePool, decode=slow_media.decode_slowly)
        monkeypatch.setattr(clip_media, "DecodePool", late)
    else:
        features = UnitRunner.features
        monkeypatch.setattr(UnitRunner, "features", lambda *given: time.sleep(slow_media.SECONDS) or features(*given))
    _, found = _bench(tmp_path, "--rows", "decode_bound", "--clips", "3")
    [row] = found["rows"]
    assert row["bound"] == slow
    assert row[f"{slow}_alone_s"] > 3 * slow_media.SECONDS
    assert row["ratio"] == pytest.approx(row["wall_s"] / row[f"{slow}_alone_s"], abs=0.01)


def test_bad_clips_are_left_out_of_all_measurements(tmp_path, monkeypatch, here):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film" * 100)

    def with_bad(name: str, row: ExtractRow, clips: int, folder: Path) -> Dataset:
        made = made_dataset(name, row, clips, folder)
        return replace(made, clips=(*made.clips[:-1], replace(made.clips[-1], video=bad)))

    monkeypatch.setattr(bench_module, "made_dataset", with_bad)
    code, found = _bench(tmp_path, "--rows", "decode_bound", "--clips", "2")
    [row] = found["rows"]
    assert (code, row["clips"], row["rejected"], row["equal"]) == (0, 1, 1, True)


def _rounds(walls=(2.0, 4.0, 12.0), hashes=("a", "a", "a")) -> dict[str, list[dict]]:
    about = {"clips": 8, "rejected": 0, "decoders": 2, "device": "cpu", "others_share": 0.0, "bottleneck": "decode"}
    times = {"startup_s": 9.0, "cpu_s": 8.0}
    alone = {"decode_alone_s": 3.0, "decode_cpu_s": 5.0, "backbone_alone_s": 1.0, "backbone_cpu_s": 1.5}
    alone |= {"encode_alone_s": 50.0, "encode_cpu_s": 0.5, "content_hash": "a"}
    together = [
        about | times | {"wall_s": wall, "content_hash": found, "stages": [wall]}
        for wall, found in zip(walls, hashes, strict=True)
    ]
    return {"together": together, "alone": [alone] * 3}


def _summed(monkeypatch, rounds: dict[str, list[dict]], cores: int = 2) -> dict:
    monkeypatch.setattr(bench_module, "cores", lambda: cores)
    choices = {modality: {"model": "m"} for modality in ("visual", "audio")}
    order = ExtractOrder("c", [], {}, {}, choices, "last:4", None, "cpu", "decord", 0, 1, False)
    return bench_module._row("decode_bound", extract_cases.ROWS["decode_bound"], order, rounds)


def test_figures_are_medians_and_the_ratio_is_to_the_largest_bound(monkeypatch):
    row = _summed(monkeypatch, _rounds())
    assert row.keys() == FIELDS
    assert (row["wall_s"], row["alone_cpu_s"], row["stages"], row["equal"]) == (4.0, 7.0, [4.0], True)
    assert (row["bound"], row["ratio"], row["clips_per_s"]) == ("cores", round(4 / 3.5, 3), 2.0)
    row = _summed(monkeypatch, _rounds(), cores=8)
    assert (row["bound"], row["ratio"]) == ("decode", round(4 / 3, 3))
    assert bench_module._in_turn(["a", "b"], 2) == 2 * [(name, each) for name in "ab" for each in bench_module.MEASURES]
    alone = {"decode_alone_s": 1.0, "backbone_alone_s": 6.0, "alone_cpu_s": 8.0}
    assert bounds_of(alone, 2) == {"decode": 1.0, "backbone": 6.0, "cores": 4.0}


def test_runs_that_differ_in_content_are_an_error(tmp_path, monkeypatch):
    assert not _summed(monkeypatch, _rounds(hashes=("a", "b", "a")))["equal"]
    rows = [_summed(monkeypatch, _rounds(hashes=("b", "b", "b")))]
    found = {"rows": rows, "failed": [], "equal": rows[0]["equal"], "rounds": 3, "cores": 2, "load_average": 0.1}
    rows[0]["stages"] = [{"name": "decode", "busy_share": 0.5, "lanes": 2}]
    monkeypatch.setattr(bench_module, "run", lambda bench: found)
    done = CliRunner().invoke(app, ["bench", "extract"])
    assert done.exit_code == 1
    assert "DIFFERENT CONTENT" in done.stdout
    assert "busy: decode 50% of 2; bottleneck: decode" in done.stdout


def test_rows_that_fail_are_named_with_the_reason(tmp_path, monkeypatch, tiny_rows):
    def ended(command, *, stderr, **options):
        stderr.write(b"a warning\nno decoder process was ready\n")
        return subprocess.CompletedProcess(command, 6)

    monkeypatch.setattr(subprocess, "run", ended)
    code, found = _bench(tmp_path, "--rows", "decode_bound,predecoded")
    reason = "no decoder process was ready"
    assert (code, found["rows"]) == (1, [])
    assert found["failed"] == [{"name": name, "reason": reason} for name in ("decode_bound", "predecoded")]
    assert list(tmp_path.iterdir()) == []


def test_a_disturbed_run_is_named(monkeypatch, capsys):
    row = _summed(monkeypatch, _rounds()) | {"stages": [], "others_share": 0.4}
    found = {"rows": [row], "failed": [], "equal": True, "rounds": 1, "cores": 2, "load_average": 1.0}
    bench_extract._print(found)
    assert "other programs took more than 10% of the processors during decode_bound" in capsys.readouterr().out
    bench_extract._print(found | {"load_average": 8.6})
    assert "the machine was busy (load 8.6 on 2 cores)" in capsys.readouterr().out
    bench_extract._print(found | {"rows": [row | {"others_share": 0.05}]})
    assert "not to be trusted" not in capsys.readouterr().out
    assert set(bench_extract.COLUMNS) <= FIELDS


@pytest.mark.alone  # the tests beside it may be its children, too
def test_time_of_children_counts_and_is_told_apart_from_that_of_others():
    work = "import time\nwhile time.process_time() < 0.3: pass\n"
    command = [sys.executable, "-S", "-c", work]
    watch = Stopwatch()
    with watch.running():
        subprocess.run(command, check=True)
    assert 0.25 < watch.cpu < 0.6
    with subprocess.Popen([*command[:-1], work + "print('done', flush=True); time.sleep(60)"], stdout=-1) as child:
        begun = processor_seconds()
        assert child.stdout.readline() == b"done\n"
        living = processor_seconds() - begun
        child.kill()
    assert 0.2 < living < 0.6
    if machine_seconds() is not None:
        before = machine_seconds()
        subprocess.run(command, check=True)
        assert machine_seconds() - before > 0.25
        assert watch.others is not None
    assert Stopwatch(wall=2.0, others=None).others_share() is None
    assert Stopwatch(wall=2.0, others=-0.1).others_share() == 0.0


def test_films_move_and_differ(tmp_path):
    for seed in (0, 1):
        write_film(tmp_path / f"{seed}.mp4", TINY, seed)
    pictures = []
    for seed in (0, 1):
        with av.open(str(tmp_path / f"{seed}.mp4")) as film:
            assert film.streams.audio[0].rate == 44_100
            assert float(film.duration / av.time_base) == pytest.approx(TINY.seconds, abs=0.2)
            pictures.append([frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)])
    first, second = pictures
    assert len(first) == len(second) == TINY.seconds * TINY.frames_per_second
    assert first[0].shape == (TINY.height, TINY.width, 3)
    assert np.abs(first[0] - second[0]).mean() > 5
    assert np.abs(first[0] - first[-1]).mean() > 5
    moved = np.abs(first[1][:-1, :-2] - first[0][1:, 2:]).mean()  # one pixel down and two to the right
    assert moved < 0.5 * np.abs(first[1] - first[0]).mean()


def test_an_order_survives_json(tmp_path):
    clips = (
        Clip("-a.b", 2, video=tmp_path / "a.mp4", sha256=((tmp_path / "a.mp4", "00ff"),)),
        Clip("c", 3, frames=(tmp_path / "0.png", tmp_path / "1.png"), audio=tmp_path / "c.wav", source="s"),
    )
    timeline = {"segment_seconds": 0.5, "frame_position": 0.25, "sample_rate": 8000}
    fields = [clip_fields(clip) for clip in clips]
    order = ExtractOrder("cache", fields, timeline, {"short_clip": "repeat"}, {}, "all", 4, "cpu", "pyav", 1, 8, False)
    again = ExtractOrder(**json.loads(json.dumps(order.as_json())))
    assert again == order
    assert again.dataset().clips == clips
    assert again.dataset().timeline == Timeline(**timeline)
    assert again.dataset().media == {"short_clip": "repeat"}


def test_clips_of_a_dataset_are_spread_over_it(tmp_path):
    clips = tuple(Clip(f"{each}", 2) for each in range(10))
    dataset = Dataset("own", tmp_path, "events", (), Timeline(), clips, ())
    assert [clip.id for clip in sampled(dataset, 4)] == ["0", "2", "5", "7"]
    assert sampled(dataset, 40) == clips
    with pytest.raises(UsageError, match="has no clips"):
        sampled(replace(dataset, clips=()), 4)


def test_a_users_own_clips_are_measured(tmp_path, monkeypatch):
    write_film(tmp_path / "a.mp4", TINY, seed=0)
    (tmp_path / "clips.csv").write_text("clip,media,split,events\n-a,a.mp4,train,dog@0-1\nb,a.mp4,train,cat@1-2\n")
    orders = []
    monkeypatch.setattr(bench_module, "in_a_process", lambda folder, order: orders.append(order) or (None, "enough"))
    models = ["--visual", "test_vit", "--audio", "test_vit", "--weights", "random:7", "--batch", "5"]
    code, found = _bench(tmp_path, "--dataset", str(tmp_path / "clips.csv"), "--rows", "own", *models, "segments=2")
    assert (code, found["failed"]) == (1, [{"name": "own", "reason": "enough"}])
    [order] = orders
    assert order.pop("do") == "together"
    order = ExtractOrder(**order)
    assert [(clip.id, clip.segments, clip.video) for clip in order.dataset().clips] == [
        (name, 2, tmp_path / "a.mp4") for name in ("-a", "b")
    ]
    job = order.job()
    assert {each.choice.weights for each in job.modalities.values()} == {"random:7"}
    assert (job.batch, job.decoders, order.stored) == (5, 1, False)


def test_clips_made_here_suit_the_machine_and_need_no_download(tmp_path, tiny_rows, monkeypatch):
    monkeypatch.setattr(bench_module, "cores", lambda: 6)
    row = extract_cases.ROWS["decode_bound"]
    few, many = (
        bench_module._order(ExtractBench(tmp_path, decoders=each), "decode_bound", row, None, tmp_path)
        for each in (1, 5)
    )
    other = bench_module._order(ExtractBench(tmp_path, visual="test_vit2"), "decode_bound", row, None, tmp_path)
    assert other.choices["visual"]["model"] == "test_vit2"
    assert {each["weights"] for each in other.choices.values()} == {"random:0"}  # nothing is downloaded for these
    assert len(few.clips) == len(many.clips) == 6 * row.clips
    assert (few.unit_segments, many.unit_segments) == (4 * TINY.seconds, 10 * TINY.seconds)


def test_messages_name_options_that_there_are(tmp_path, tiny_rows, monkeypatch):
    """Weights that are refused say `--visual-weights`; a disk that is full says which options need less of it."""
    known = CliRunner().invoke(app, ["bench", "extract", "--help"], env={"COLUMNS": "400"}).output
    row = extract_cases.ROWS["decode_bound"]
    bench = ExtractBench(tmp_path, weights="random:1", visual_weights="random:2", clips=1)
    order = bench_module._order(bench, "decode_bound", row, None, tmp_path)
    assert {m: each["weights"] for m, each in order.choices.items()} == {"visual": "random:2", "audio": "random:1"}
    with pytest.raises(UsageError, match="does not exist") as refused:
        run(ExtractBench(tmp_path, weights="bogus", rows=("decode_bound",)))
    monkeypatch.setattr(material.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_500_000))
    with pytest.raises(EnvironmentLacking, match=r"has 1\.5 MB free, and \d+\.\d MB and 1\.1 GB to spare") as full:
        run(ExtractBench(tmp_path, rows=("decode_bound",)))
    for message in (refused.value, full.value):
        options = re.findall(r"--[a-z-]+", str(message))
        assert options
        assert [option for option in options if f"{option} " not in known] == []


def test_refuses_what_cannot_work(tmp_path, tiny_rows):
    for wrong, words in (
        ({"rows": ("decode_bund",)}, "did you mean 'decode_bound'"),
        ({"rows": ("decode_bound",), "dataset": "ave"}, "unknown row 'decode_bound'"),
        ({"rounds": 0}, "rounds must be 1 or more"),
        ({"clips": -1}, "clips must be 0 .* not -1"),
        ({"decoders": -1}, "decoders must be 0"),
        ({"root": tmp_path}, "name it with --dataset"),
        ({"settings": {"segments": "2"}}, "name it with --dataset"),
    ):
        with pytest.raises(UsageError, match=words):
            ExtractBench(tmp_path, **wrong)
    with pytest.raises(UsageError, match="no folder"):
        run(ExtractBench(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="layers beyond the first"):
        run(ExtractBench(tmp_path, rows=("predecoded",), layers="blocks.0"))
    with pytest.raises(UsageError, match="did you mean"):
        run(ExtractBench(tmp_path, visual="test_vitt"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_row_in_processes_of_its_own(tmp_path, tiny_rows, monkeypatch):
    started, really = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **named: started.append(command) or really(command, **named))
    code, found = _bench(tmp_path)
    assert (code, found["failed"], found["equal"]) == (0, [], True)
    assert [row["name"] for row in found["rows"]] == ["decode_bound", "backbone_bound", "predecoded"]
    assert len(started) == 2 * 3
    assert all(row["startup_s"] > row["wall_s"] > 0 for row in found["rows"] if row["name"] != "predecoded")
    assert (
        len({row["content_hash"] for row in found["rows"]}) == 2
    )  # of the first block, only stored frames come with it
    assert list(tmp_path.iterdir()) == []
