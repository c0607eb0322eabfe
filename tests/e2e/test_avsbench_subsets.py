"""The subsets of AVSBench in one folder and one cache, by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.evaluate import evaluate
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import _one_subset, find_inputs

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three clips of each subset; do not change them."""
    out = tmp_path_factory.mktemp("demo") / "avsbench"
    for subset in ("s4", "ms3", "avss"):
        make_demo(f"avsbench-{subset}", out, seed=1, clips=3, workers=1)
    return out


@pytest.mark.slow
def test_three_subsets_share_one_cache(data, avpipe, tmp_path):
    env = {"AVPIPE_DATA": str(data.parent)}
    avpipe("extract", "--dataset", "avsbench-s4", *STUB, env=env)
    cache = open_cache(tmp_path / "cache" / "avsbench")
    assert sorted(cache.clips()) == sorted(clip.id for clip in load_dataset("avsbench-s4", data).clips)
    # Clips of AVSS are longer than those that the cache was begun with.
    summary = json.loads(avpipe("extract", "--dataset", "avsbench", *STUB, "--json", env=env).stdout)
    assert (summary["extracted"], summary["clips"], summary["quarantined"]) == (6, 9, [])
    cache = open_cache(tmp_path / "cache" / "avsbench")
    whole = load_dataset("avsbench", data)
    assert {clip.id: clip.segments for clip in whole.clips} == {id_: c.segments for id_, c in cache.clips().items()}
    for subset in ("s4", "ms3", "avss"):  # each finds its own clips there, and nothing left to do
        arguments = ("extract", "--dataset", f"avsbench-{subset}", *STUB, "--json")
        summary = json.loads(avpipe(*arguments, env=env).stdout)
        assert (summary["extracted"], summary["clips"]) == (0, 3)

    with pytest.raises(UsageError, match=r"name one with --dataset \(avsbench-s4, avsbench-ms3, avsbench-avss\)"):
        train(TrainOptions("avsbench", cache=Path(cache.path)))
    assert not (tmp_path / "runs").exists()

    run = train(TrainOptions("avsbench-s4", cache=Path(cache.path), run=tmp_path / "run", overrides=("epochs=1",)))
    result = evaluate(run)
    assert (result["dataset"], result["samples"], result["missing"]) == ("avsbench-s4", 1, 0)
    assert result["metrics"]["frames"] == 5
    on_train = evaluate(run, "train")
    assert (on_train["metrics"]["frames"], on_train["unlabelled_segments"]) == (1, 4)  # first-frame supervision
    settings = ("epochs=1", "width=16", "rank=16")
    run = train(TrainOptions("avsbench-avss", cache=Path(cache.path), run=tmp_path / "avss", overrides=settings))
    result = evaluate(run)
    assert (result["dataset"], result["task"], result["samples"]) == ("avsbench-avss", "semantic", 1)
    assert result["metrics"]["frames"] == 10


@pytest.mark.parametrize("parts", [("Multi-sources",), ("metadata.csv", "v1s", "v1m", "v2")])
def test_the_only_subset_is_no_choice(data, monkeypatch, tmp_path, parts):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "avsbench"
    root.mkdir()
    for name in parts:
        (root / name).symlink_to(data / name)
    with pytest.raises(UsageError, match="no features of avsbench yet"):  # a choice or a missing head would come first
        find_inputs("avsbench", root, None)
    subset = _one_subset(load_dataset("avsbench", root))
    known = {"Multi-sources": ("avsbench-ms3", "segmentation"), "metadata.csv": ("avsbench-avss", "semantic")}
    assert (subset.name, subset.task) == known[parts[0]]
    assert subset.samples == load_dataset(subset.name, root).samples


def test_a_choice_of_subsets_is_named(data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"name one with --dataset \(avsbench-s4, avsbench-ms3, avsbench-avss\)"):
        find_inputs("avsbench", data, None)
    with pytest.raises(UsageError, match=r"no features of avsbench-avss yet: .*avpipe extract --dataset avsbench-avss"):
        find_inputs("avsbench-avss", data, None)
