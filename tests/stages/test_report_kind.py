"""A report of stage segment says what was injected where, from which start, and how far the gates opened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from safetensors.torch import load_file

from avpipe.stages import runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.model import injection_in_words
from avpipe.stages.report import kind
from avpipe.stages.report.document import build
from avpipe.stages.report.sources import open_sources
from avpipe.stages.runs import RunConfig
from avpipe.stages.train import TrainOptions, train

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=1", "taps=all")


@pytest.fixture(scope="module")
def three(toy_masks, tmp_path_factory):
    """Scored runs: distill, at the side from it, and nothing injected, from fresh weights; do not change them."""
    base = tmp_path_factory.mktemp("runs")
    cache = toy_masks.cache
    asked = {
        "d": TrainOptions(cache=cache, run=base / "d", overrides=SMALL),
        "side": TrainOptions(
            cache=cache, run=base / "side", stage="segment", overrides=(*SMALL, "inject=side", "inject_at=blocks.10")
        ),
        "none": TrainOptions(
            cache=cache, run=base / "none", stage="segment", start="none", overrides=(*SMALL, "inject=none")
        ),
    }
    for options in asked.values():
        evaluate(train(options))
    return base


def test_a_segment_run_is_named_with_its_injections(three):
    data = build(open_sources(three / "side", "test", None, None, "cpu"), clips=0, beside=None, device="cpu").data
    assert data["run"]["stage"] == "segment, inject=side, inject_at=blocks.10, from d"
    weights = load_file(three / "side" / runs.BEST)
    [gate] = [value for name, value in weights.items() if name.endswith("injections.blocks_10.gate")]
    name, mean = data["run"]["gates"].split()
    assert name == "blocks.10"
    assert float(mean) == pytest.approx(float(gate.abs().mean()), rel=0.01)
    assert float(mean) > 0
    rows = {row["run"]: row["label"] for row in data["scores"]["protocols"][0]["rows"] if row["run"]}
    assert rows == {
        "side": "mettle (both), segment, inject=side, inject_at=blocks.10, from d",
        "none": "mettle (both), segment, inject=none, from fresh weights",
        "d": "mettle (both), stage=distill",
    }
    assert "runs again" not in data["layers"]["how"]


def test_the_tap_from_which_a_backbone_goes_on_stands_for_later_ones(three):
    config = RunConfig.load(three / "side")
    again = replace(config, train=replace(config.train, inject="rerun"))
    resumed = replace(again, model=replace(again.model, resume="blocks.9"))
    assert "from blocks.10 on: blocks.9, from which it goes on, stands for all later" in kind.resumed_in_words(resumed)
    assert "the frames stand for all" in kind.resumed_in_words(again)
    assert kind.resumed_in_words(config) == kind.resumed_in_words(RunConfig.load(three / "d")) == ""


def test_lavish_and_linear_are_called_what_they_are(three):
    config = RunConfig.load(three / "side")
    lavish = replace(config, model=replace(config.model, adapted={"visual": {"blocks.0": 8}}))
    assert kind.in_words(lavish) == "adapters inside both backbones, trained end to end"
    assert kind.in_words(RunConfig.load(three / "d")) == "distill"
    said = injection_in_words(config.model, replace(config.train, method="linear"))
    assert said.startswith("mean tokens of the top layers (method linear) adapt the cached layers before blocks.10")
