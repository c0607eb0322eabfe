"""Taps of timm's models: equal to a forward pass written by hand, and unlike one with anything left out."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import timm
import timm_reference as reference
import torch
from timm_small import CASES, frames
from torch import Tensor, nn

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, BackboneFacts, facts_of, load
from avpipe.stages.backbones.timm_weights import redraw

LIMIT = 1e-6
SHOWS = 1e-3
SEEN = 0.3


ROTARY = ("DINOv3", "mixed RoPE", "EVA-02", "EVA-02 CLIP")
STAGED = ("Swin", "Swin-V2")


@cache
def tapped(name: str) -> dict[str, np.ndarray]:
    """Tokens of every tap of a case."""
    case = CASES[name]
    return case.load().features(frames(case.size))


def plain(name: str) -> tuple[nn.Module, Tensor]:
    """The same model without taps, and its pictures."""
    case = CASES[name]
    model = timm.create_model(case.model, num_classes=0, img_size=case.size, **case.options).eval()
    redraw(model, 3)
    return model, pictures_for(case.facts())


def pictures_for(facts: BackboneFacts) -> Tensor:
    """Frames as the model takes them: [B, 3, H, W]."""
    mean, std = (torch.tensor(facts.preprocess[key]).view(3, 1, 1) * 255 for key in ("mean", "std"))
    return (torch.from_numpy(frames(facts.input_size[0])).permute(0, 3, 1, 2).float() - mean) / std


def worst(found: dict[str, np.ndarray], steps: reference.Steps) -> float:
    """The largest relative difference of a tap."""
    assert list(found) == list(steps)
    return max(
        float(np.linalg.norm(found[tap] - y.numpy()) / np.linalg.norm(y.numpy())) for tap, (_, y) in steps.items()
    )


@pytest.mark.parametrize("name", CASES)
def test_every_tap_is_its_blocks_output(name: str) -> None:
    facts, found = CASES[name].facts(), tapped(name)
    steps = reference.steps(*plain(name))
    assert {tap: tokens.shape[1:] for tap, tokens in found.items()} == facts.taps
    assert {str(tokens.dtype) for tokens in found.values()} == {"float32"}
    assert worst(found, steps) <= LIMIT
    assert min(reference.change(x, y) for x, y in steps.values()) >= SEEN  # so that a block left out would show


@pytest.mark.parametrize("name", CASES)
def test_a_block_left_out_shows(name: str) -> None:
    found = tapped(name)
    model, pictures = plain(name)
    blocks = model.layers[2].blocks if name in STAGED else model.blocks
    blocks[1] = reference.Skipped()
    assert worst(found, reference.steps(model, pictures)) > SHOWS


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_positions_left_out_show(name: str) -> None:
    model, pictures = plain(name)
    assert worst(tapped(name), reference.steps(model, pictures, rope=False)) > SHOWS


@pytest.mark.parametrize("name", STAGED)
def test_a_shift_left_out_shows(name: str) -> None:
    model, pictures = plain(name)
    block = model.layers[0].blocks[1]
    assert any(block.shift_size)
    block.shift_size, block.attn_mask = (0, 0), None
    assert worst(tapped(name), reference.steps(model, pictures)) > SHOWS


@pytest.mark.parametrize("name", STAGED)
def test_another_downsampling_shows(name: str) -> None:
    model, pictures = plain(name)
    torch.manual_seed(0)
    model.layers[1].downsample.reduction.reset_parameters()
    assert worst(tapped(name), reference.steps(model, pictures)) > SHOWS
    model.layers[1].downsample = _MeanOfFour()
    assert worst(tapped(name), reference.steps(model, pictures)) > SHOWS


class _MeanOfFour(nn.Module):
    """The mean of two by two tokens, twice over, in the place of a learned merge."""

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        return torch.cat([pooled, pooled], dim=-1)


@pytest.mark.parametrize("name", ["DINOv3", "mixed RoPE", "Swin", "Swin-V2"])
def test_nothing_behind_the_last_tap_is_run(name: str) -> None:
    case, every = CASES[name], tapped(name)
    names = list(case.facts().taps)
    wanted = names[1:5] if name in STAGED else names[1:2]
    model = case.load(taps=tuple(reversed(wanted)))
    ran: list[str] = []
    for path, module in model._model.model.named_modules():
        module.register_forward_hook(lambda *_, path=path: ran.append(path))
    found = model.features(frames(case.size))
    assert set(found) == set(wanted)
    for tap in wanted:
        np.testing.assert_array_equal(found[tap], every[tap])
    after = names[names.index(wanted[-1]) + 1 :]
    assert wanted[-1] in ran
    assert not set(ran) & set(after)
    assert model.weights_sha256 == case.load().weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("test_vit", 160),
        ("vit_tiny_patch16_224", 224),
        ("deit_tiny_distilled_patch16_224", 224),
        ("vit_xsmall_patch16_clip_224", 224),
        ("vit_small_patch14_reg4_dinov2", 224),
        ("vit_small_patch16_dinov3", 224),
        ("eva02_tiny_patch14_224", 224),
        ("swin_tiny_patch4_window7_224", 224),
        ("swinv2_tiny_window8_256", 256),
        ("swinv2_large_window12_192", 192),
    ],
)
def test_whole_models(model: str, size: int) -> None:
    """The same with nothing made small."""
    picked = BackboneChoice("visual", model, "random:3", size)
    facts = facts_of(picked, Timeline())
    found = load(picked, facts, tuple(facts.taps), "cpu").features(frames(size))
    other = timm.create_model(model, num_classes=0, img_size=size).eval()
    redraw(other, 3)
    steps = reference.steps(other, pictures_for(facts))
    assert {tap: tokens.shape[1:] for tap, tokens in found.items()} == facts.taps
    assert worst(found, steps) <= LIMIT
    assert min(reference.change(x, y) for x, y in steps.values()) >= SEEN
