"""Backbones: facts without torch, layers by name, the stand-in."""

import subprocess
import sys

import numpy as np
import pytest

from avpipe.pipeline.errors import AvpipeError, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, load, select_taps

TIMELINE = Timeline()


def _load(choice, layers="all"):
    facts = facts_of(choice, TIMELINE)
    return facts, load(choice, facts, select_taps(layers, list(facts.taps)), "cpu")


def _frames(size, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (BackboneChoice("visual", "vit_bse_patch16_224"), "did you mean 'vit_base_patch16_224'"),
        (BackboneChoice("visual", "resnet50"), "`avpipe backbones ls` lists them"),
        (BackboneChoice("visual", "vit_base_patch16_224.dno"), "did you mean 'dino'"),
        (
            BackboneChoice("visual", "test_vit", "random:0", 100),
            "image size 100 of test_vit is no multiple of its patch",
        ),
        (BackboneChoice("visual", "swinv2_large_window12_192", "random:0", 194), "such as 192; its own is 192"),
        (BackboneChoice("visual", "swinv2_large_window12_192", "random:0", -4), "image size -4"),
        (BackboneChoice("visual", "test_vit", "random"), "need a seed"),
        (BackboneChoice("audio", "stub", "pretrained"), "random weights only"),
    ],
)
def test_wrong_choices_are_named(choice, message):
    with pytest.raises(AvpipeError, match=message):
        _ = facts_of(choice, TIMELINE), choice.seed


TAPS = [f"blocks.{i}" for i in range(12)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", TAPS),
        ("last:4", TAPS[-4:]),
        ("stages", [TAPS[2], TAPS[5], TAPS[8], TAPS[11]]),
        ("blocks.7, blocks.1", [TAPS[1], TAPS[7]]),
    ],
)
def test_layer_specs(spec, expected):
    assert select_taps(spec, TAPS) == tuple(expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blocks.12", r"unknown layer 'blocks\.12': the model has 12 blocks, blocks\.0 to blocks\.11$"),
        ("last:0", "positive"),
        ("last:x", "positive"),
        ("last:13", "has 12 blocks"),
    ],
)
def test_wrong_layer_specs(spec, message):
    with pytest.raises(UsageError, match=message):
        select_taps(spec, TAPS)


def test_facts_and_stub_import_no_torch():
    code = (
        "import sys; from avpipe.stages.backbones import *; from avpipe.pipeline.timeline import Timeline\n"
        "for model in ('test_vit', 'swinv2_large_window12_192', 'stub'):\n"
        "    choice = BackboneChoice('visual', model, 'random:0'); facts = facts_of(choice, Timeline())\n"
        "load(choice, facts, ('blocks.1',)); assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stub_features_depend_on_the_input():
    _, stub = _load(BackboneChoice("visual", "stub", "random:0"))
    first, second = stub.features(_frames(32, 2))["blocks.0"]
    assert first.shape == (16, 16)
    assert np.abs(first - second).max() > 0.01
