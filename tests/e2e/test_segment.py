"""Segmentation with injected meta-tokens by command, from the media on: demo MS3, the demo's backbones."""

from __future__ import annotations

import json
import shlex

import pytest

from avpipe.pipeline import open_cache
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.model import reading
from avpipe.stages.runs import RunConfig
from avpipe.stages.statistics import statistics_name

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=1")
TRAIN = ("train", "--dataset", "avsbench-ms3", *SMALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Demo data of three clips; do not change them."""
    out = tmp_path_factory.mktemp("demo") / "avsbench"
    make_demo("avsbench-ms3", out, seed=2, clips=3, workers=1)
    return out


def arrays_of(path) -> set[str]:
    """Names of a cache's tokens."""
    names = set(open_cache(path).arrays)
    return {name for name in names if statistics_name(name) in names}


def read_by(run) -> set[str]:
    config = RunConfig.load(run)
    taps = reading(config.model, config.train).taps
    return {f"{modality}/{tap}" for modality, names in taps.items() for tap in names}


def test_what_for_segment_stores_is_what_is_read(data, avpipe_here, tmp_path, monkeypatch):
    monkeypatch.setenv("AVPIPE_DATA", str(data.parent))
    segment = (*TRAIN, "--stage", "segment")
    extract = ("extract", "--dataset", "avsbench", "--for", "segment", "--inject-at", "last:1")
    planned = json.loads(avpipe_here(*extract, "--dry-run", "--json").stdout)
    avpipe_here(*extract)
    stored = arrays_of(tmp_path / "cache" / "avsbench")
    visual = {f"visual/blocks.{number}" for number in (1, 2, 3, 4, 5)}  # ends of four parts of six blocks, and 4
    assert stored == {*visual, "audio/blocks.5"}
    assert stored <= {array["name"] for array in planned["arrays"]}

    runs = [tmp_path / "runs" / name for name in ("distill", "rerun", "side", "none")]
    avpipe_here(*TRAIN, "--run", runs[0])
    done = avpipe_here(*segment, "--run", runs[1], "inject_at=last:1")
    assert "meta-tokens go into blocks.5; the visual backbone runs again, from cached blocks.4 on" in done.stderr
    avpipe_here(*segment, "--run", runs[2], "inject=side")
    avpipe_here(*segment, "--run", runs[3], "inject=none")
    assert set().union(*map(read_by, runs)) == stored
    for run in runs[1:]:
        assert RunConfig.load(run).start["run"] == str(runs[0])

    avpipe_here("evaluate", "--run", runs[1])
    scores = json.loads((runs[1] / "metrics.json").read_text())
    assert (scores["stage"], scores["samples"], scores["missing"]) == ("segment", 1, 0)
    avpipe_here("report", "--run", runs[1])
    assert (runs[1] / "report.html").stat().st_size > 10_000

    done = avpipe_here(*segment, "inject_at=blocks.1", check=2)  # needs a layer that is not there
    assert "lacks visual/blocks.0, which the injections need" in done.stderr
    avpipe_here(*shlex.split(done.stderr.split("`")[1])[1:])
    assert arrays_of(tmp_path / "cache" / "avsbench") == {*stored, "visual/blocks.0"}
    avpipe_here(*segment, "--run", tmp_path / "last", "inject_at=blocks.1", "checkpointing=on")


def test_options_of_extract_that_exclude_each_other(data, avpipe_here, tmp_path):
    command = ("extract", "--dataset", "avsbench-ms3", "--root", data, "--dry-run")
    done = avpipe_here(*command, "--for", "segment", "--layers", "stages", check=2)
    assert "--layers and --for both choose what is stored" in done.stderr
    done = avpipe_here(*command, "--inject-at", "last:1", check=2)
    assert "--inject-at belongs to --for segment" in done.stderr
    done = avpipe_here(*command, "--for", "segmnt", check=2)
    assert "unknown purpose of --for 'segmnt': did you mean 'segment'?" in done.stderr
