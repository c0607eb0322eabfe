"""Backbones: facts without torch, taps equal to a plain forward, weights from files, hashes."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, load, select_taps
from avpipe.stages.backbones.timm_vit import redraw

TIMELINE = Timeline()


def _load(choice, layers="all"):
    facts = facts_of(choice, TIMELINE)
    return facts, load(choice, facts, select_taps(layers, list(facts.taps)), "cpu")


def _frames(size, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _reference(model, images):
    """Every block's output in a forward pass written out by hand."""
    with torch.inference_mode():
        x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        outputs = []
        for block in model.blocks:
            x = block(x)
            outputs.append(x.numpy())
    return outputs


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_every_tap_is_its_blocks_output(name):
    size = 70 if "patch14" in name else 64
    facts, backbone = _load(BackboneChoice("visual", name, "random:3", size))
    model = timm.create_model(name, num_classes=0, img_size=size).eval()
    redraw(model, 3)
    frames = _frames(size)
    images = (
        torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - torch.tensor(facts.preprocess["mean"]).view(3, 1, 1)
    ) / (torch.tensor(facts.preprocess["std"]).view(3, 1, 1))
    found, expected = backbone.features(frames), _reference(model, images)
    assert list(found) == list(facts.taps)
    for (tap, tokens), truth in zip(found.items(), expected, strict=True):
        assert tokens.shape[1:] == facts.taps[tap]
        np.testing.assert_allclose(tokens, truth, rtol=1e-4, atol=1e-4)
    outputs = list(found.values())
    for before, after in pairwise(outputs):  # a skipped block would show
        assert np.linalg.norm(after - before) > 0.3 * np.linalg.norm(before)


def test_taps_do_not_change_values_or_hash():
    choice = BackboneChoice("visual", "test_vit", "random:0", 64)
    _, every = _load(choice)
    _, one = _load(choice, "blocks.2")
    frames = _frames(64)
    assert set(one.features(frames)) == {"blocks.2"}
    np.testing.assert_array_equal(one.features(frames)["blocks.2"], every.features(frames)["blocks.2"])
    assert one.weights_sha256 == every.weights_sha256


def test_random_weights_follow_the_seed_alone():
    hashes = {
        seed: _load(BackboneChoice("visual", "test_vit", f"random:{seed}", 64))[1].weights_sha256 for seed in (0, 1)
    }
    torch.manual_seed(99)
    again = _load(BackboneChoice("visual", "test_vit", "random:0", 64))[1].weights_sha256
    assert again == hashes[0] != hashes[1]


def test_weights_file_gives_the_weights_and_fits_one_channel(tmp_path):
    model = timm.create_model("test_vit", num_classes=0)
    redraw(model, 7)
    path = tmp_path / "-weights.safetensors"
    save_file(model.state_dict(), path)
    _, from_file = _load(BackboneChoice("visual", "test_vit", str(path), 160))
    _, drawn = _load(BackboneChoice("visual", "test_vit", "random:7", 160))
    assert from_file.weights_sha256 == drawn.weights_sha256
    _, audio = _load(BackboneChoice("audio", "test_vit", str(path)))
    samples = np.random.default_rng(0).integers(-3000, 3000, (2, 16000), dtype=np.int16)
    assert audio.features(samples)["blocks.0"].shape == (2, 49, 64)


def test_a_file_that_lacks_tensors_is_refused(tmp_path):
    model = timm.create_model("test_vit", num_classes=0)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks.3")}
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    with pytest.raises(UsageError, match=r"lacks \d+ tensors, such as blocks.3"):
        _load(BackboneChoice("visual", "test_vit", str(path)))
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(UsageError, match="no safetensors file and no torch checkpoint"):
        _load(BackboneChoice("visual", "test_vit", str(tmp_path / "text.safetensors")))
    with pytest.raises(UsageError, match="does not exist"):
        BackboneChoice("visual", "test_vit", str(tmp_path / "none.safetensors")).request()


def test_pretrained_weights_that_cannot_be_had_say_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentLacking, match="--weights"):
        _load(BackboneChoice("visual", "test_vit", "pretrained"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (BackboneChoice("visual", "vit_bse_patch16_224"), "did you mean 'vit_base_patch16_224'"),
        (BackboneChoice("visual", "swinv2_large_window12_192"), "loads timm's plain ViTs"),
        (BackboneChoice("visual", "vit_base_patch16_224.dno"), "did you mean 'dino'"),
        (BackboneChoice("visual", "test_vit", "random:0", 100), "is no multiple of"),
        (BackboneChoice("visual", "test_vit", "random"), "need a seed"),
        (BackboneChoice("audio", "stub", "pretrained"), "random weights only"),
    ],
)
def test_wrong_choices_are_named(choice, message):
    with pytest.raises(AvpipeError, match=message):
        _ = facts_of(choice, TIMELINE), choice.seed


def test_the_table_agrees_with_timm():
    for name in ("test_vit", "vit_base_patch16_clip_224", "vit_small_patch14_reg4_dinov2", "deit3_small_patch16_224"):
        with torch.device("meta"):
            model = timm.create_model(name)
        facts = facts_of(BackboneChoice("visual", name), TIMELINE)
        assert facts.taps[f"blocks.{len(model.blocks) - 1}"] == (
            model.patch_embed.num_patches + model.num_prefix_tokens,
            model.embed_dim,
        )


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
        ("blocks.12", "did you mean 'blocks."),
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
        "for model in ('test_vit', 'stub'):\n"
        "    choice = BackboneChoice('visual', model, 'random:0'); facts = facts_of(choice, Timeline())\n"
        "load(choice, facts, ('blocks.1',)); assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stub_features_depend_on_the_input():
    _, stub = _load(BackboneChoice("visual", "stub", "random:0"))
    first, second = stub.features(_frames(32, 2))["blocks.0"]
    assert first.shape == (16, 16)
    assert np.abs(first - second).max() > 0.01
