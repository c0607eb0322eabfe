"""Weights of timm's models: drawn, from files in several layouts and sizes, hashed, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm_small import CASES, Case, frames
from torch import Tensor

from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, load
from avpipe.stages.backbones.timm_weights import hash_tensors, redraw

State = dict[str, Tensor]


def loaded(choice: BackboneChoice, taps: tuple[str, ...] = ("blocks.2",)) -> Any:
    return load(choice, facts_of(choice, Timeline()), taps, "cpu")


def state_of(case: Case, seed: int = 7) -> State:
    """Tensors of a small model as timm names them."""
    model = timm.create_model(case.model, num_classes=0, img_size=case.size, **case.options)
    redraw(model, seed)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    """Tensors under other names: every occurrence of a text is replaced."""
    found = {}
    for name, tensor in state.items():
        for old, new in pairs:
            name = name.replace(old, new)
        found[name] = tensor
    return found


def swin(state: State) -> dict[str, Any]:
    """The official layout: the merge belongs to the stage in front of it; with a classifier and buffers."""
    stages = [(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample") for stage in (1, 2, 3)]
    index = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(1)}
    return {"model": {**renamed(state, *stages), **index, "head.weight": torch.zeros(5, 128)}}


def eva02(state: State) -> dict[str, Any]:
    """The official layout of EVA-02 behind masked-image training."""
    pairs = (("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2"), ("mlp.fc2", "mlp.w3"), ("mlp.norm", "mlp.ffn_ln"))
    whole = renamed(state, *pairs, ("fc_norm", "norm"))
    return {"module": {**whole, "mask_token": torch.zeros(1), "rope.freqs_cos": torch.zeros(1)}}


def dinov3(state: State) -> State:
    """The official layout of DINOv3."""
    found = renamed(state, ("gamma_", "ls"), ("reg_token", "storage_tokens"))
    found = {name + ".gamma" if name.endswith(("ls1", "ls2")) else name: tensor for name, tensor in found.items()}
    return {**found, "mask_token": torch.zeros(1), "rope_embed.periods": torch.zeros(1)}


def dinov2(state: State) -> State:
    """The official layout of DINOv2 with registers, whose class token has a position of its own."""
    found = renamed(state, ("reg_token", "register_tokens"))
    zero = torch.zeros(1, 1, state["pos_embed"].shape[-1])
    return {**found, "pos_embed": torch.cat([zero, state["pos_embed"]], dim=1), "mask_token": torch.zeros(1)}


def clip(state: State) -> State:
    """OpenAI's layout."""
    pairs = (
        ("patch_embed.proj", "conv1"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("norm_pre", "ln_pre"),
        ("norm1", "ln_1"),
        ("norm2", "ln_2"),
        ("norm.", "ln_post."),
        ("blocks.", "transformer.resblocks."),
    )
    found = renamed({name: tensor for name, tensor in state.items() if name not in ("cls_token", "pos_embed")}, *pairs)
    found |= {"class_embedding": state["cls_token"][0, 0], "positional_embedding": state["pos_embed"][0]}
    return {f"visual.{name}": tensor for name, tensor in found.items()} | {"logit_scale": torch.zeros(())}


LAYOUTS: dict[str, Callable[[State], dict[str, Any]]] = {
    "Swin": swin,
    "Swin-V2": swin,
    "EVA-02": eva02,
    "DINOv3": dinov3,
    "DINOv2": dinov2,
    "CLIP": clip,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_layouts_load(name: str, tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / "weights.pth"
    state = state_of(case)
    torch.save(LAYOUTS[name](state), path)
    model = case.load(str(path), taps=(next(iter(case.facts().taps)),))
    assert model.weights_sha256 == hash_tensors(state)


@pytest.mark.parametrize(("name", "size"), [("ViT", 96), ("DINOv2", 42), ("DINOv3", 96), ("Swin", 16), ("Swin-V2", 64)])
def test_weights_of_another_size_are_resampled(name: str, size: int, tmp_path: Path) -> None:
    """Positions and tables of relative positions follow the input; what does not depend on it stays."""
    case, path = CASES[name], tmp_path / "weights.safetensors"
    state = state_of(case)
    save_file(state, path)
    facts = case.facts(size)
    found = case.load(str(path), size=size).features(frames(size))
    assert {tap: tokens.shape[1:] for tap, tokens in found.items()} == facts.taps
    assert all(np.isfinite(tokens).all() for tokens in found.values())
    model = case.load(str(path), size=size)._model.model
    first = model.layers[0].blocks[0] if name.startswith("Swin") else model.blocks[0]
    qkv = first.attn.qkv.weight
    assert torch.equal(qkv, state[next(key for key in state if key.endswith("attn.qkv.weight"))])
    if name == "Swin":
        table = "layers.0.blocks.0.attn.relative_position_bias_table"
        assert len(state[table]) == 13 * 13
        assert len(first.attn.relative_position_bias_table) == 7 * 7  # a window of 4 x 4, as large as the grid


def test_random_weights_follow_the_seed_alone() -> None:
    hashes = {
        seed: loaded(BackboneChoice("visual", "test_vit", f"random:{seed}", 64)).weights_sha256 for seed in (0, 1)
    }
    torch.manual_seed(99)
    again = loaded(BackboneChoice("visual", "test_vit", "random:0", 64)).weights_sha256
    assert again == hashes[0] != hashes[1]


def test_random_weights_of_the_demos_model_stay_what_they_were() -> None:
    """Numbers in the documentation are of these."""
    model = loaded(BackboneChoice("visual", "test_vit", "random:0", 160))
    assert model.weights_sha256.startswith("ca3cd5caaa02")


def test_a_file_gives_the_weights_and_fits_one_channel(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0)
    redraw(model, 7)
    path = tmp_path / "-weights.safetensors"
    save_file(model.state_dict(), path)
    from_file = loaded(BackboneChoice("visual", "test_vit", str(path), 160))
    drawn = loaded(BackboneChoice("visual", "test_vit", "random:7", 160))
    assert from_file.weights_sha256 == drawn.weights_sha256
    audio = loaded(BackboneChoice("audio", "test_vit", str(path)))
    samples = np.random.default_rng(0).integers(-3000, 3000, (2, 16000), dtype=np.int16)
    assert audio.features(samples)["blocks.2"].shape == (2, 49, 64)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks.3")}
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    with pytest.raises(UsageError, match=r"lacks \d+ tensors, such as blocks.3"):
        loaded(BackboneChoice("visual", "test_vit", str(path)))
    with pytest.raises(UsageError, match=r"does not fit vit_tiny_patch16_224: .*size mismatch for cls_token"):
        loaded(BackboneChoice("visual", "vit_tiny_patch16_224", str(path), 32))
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(UsageError, match="no safetensors file and no torch checkpoint"):
        loaded(BackboneChoice("visual", "test_vit", str(tmp_path / "text.safetensors")))
    with pytest.raises(UsageError, match="does not exist"):
        BackboneChoice("visual", "test_vit", str(tmp_path / "none.safetensors")).request()


def test_filters_print_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to results; timm's filter for DINOv3 speaks of a bias that a model does not have."""
    case, path = CASES["DINOv3"], tmp_path / "weights.pth"
    state = state_of(case)
    torch.save({**dinov3(state), "blocks.0.attn.qkv.bias": torch.zeros(3 * 48)}, path)
    assert case.load(str(path)).weights_sha256 == hash_tensors(state)
    assert capsys.readouterr().out == ""


def test_pretrained_weights_that_cannot_be_had_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentLacking, match="--visual-weights FILE"):
        loaded(BackboneChoice("visual", "test_vit", "pretrained"))


@pytest.mark.parametrize(
    "more", ["blocks.12.norm1.weight", "blocks.0.ls1.gamma", "blocks.3.attn.q_norm.weight", "reg_token"]
)
def test_a_file_of_another_architecture_is_refused(tmp_path, more):
    """Its other tensors all fit, so the features would be plausible and wrong."""
    state = dict(timm.create_model("test_vit", num_classes=0).state_dict())
    path = tmp_path / "other.safetensors"
    save_file({**state, "head.weight": torch.zeros(3, 64), "mask_token": torch.zeros(1)}, path)
    loaded(BackboneChoice("visual", "test_vit", str(path)))
    save_file({**state, more: torch.ones(64)}, path)
    with pytest.raises(UsageError, match="of another architecture than test_vit.*such as " + more):
        loaded(BackboneChoice("visual", "test_vit", str(path)))
