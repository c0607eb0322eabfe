"""What the table says of timm's models, against timm's own models, built without memory."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, BackboneFacts, facts_of
from avpipe.stages.backbones.timm_model import Tapped
from avpipe.stages.backbones.timm_table import KINDS, table

FEW = ("test_vit", "deit_tiny_distilled_patch16_224", "vit_tiny_patch16_dinov3_qkvb")


def facts(model: str, size: int | None = None) -> BackboneFacts:
    return facts_of(BackboneChoice("visual", model, "random:0", size), Timeline())


def check(name: str) -> None:
    """Runs a model on nothing, and compares the shape of every block's output with what the table says."""
    said, entry = facts(name), table()[name]
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0).eval()
    assert KINDS[type(model).__name__] == entry.kind
    config: dict[str, Any] = model.pretrained_cfg
    assert said.input_size == tuple(config["input_size"][1:])
    assert said.preprocess == {"mean": list(config["mean"]), "std": list(config["std"])}
    assert entry.default_tag == (config.get("tag") or "")
    assert set(entry.tags) == {full.partition(".")[2] for full in timm.list_pretrained(name)}
    with torch.inference_mode():
        found = Tapped(model, tuple(said.taps))(torch.empty(1, 3, *said.input_size, device="meta"))
    assert {tap: tuple(tokens.shape[1:]) for tap, tokens in found.items()} == said.taps


@pytest.mark.parametrize("name", FEW)
def test_a_few_models_agree_with_timm(name: str) -> None:
    check(name)


@pytest.mark.slow
def test_every_model_agrees_with_timm() -> None:
    assert len(table()) > 250
    for name in table():
        check(name)


def test_swin_v2_large_has_the_references_shapes_and_bytes() -> None:
    """Tokens, widths, blocks and bytes in float16 as the papers' backbone has them at 192 pixels."""
    said = facts("swinv2_large_window12_192")
    assert [(s.grid[0] * s.grid[1], s.width, s.blocks) for s in said.stages] == [
        (2304, 192, 2),
        (576, 384, 2),
        (144, 768, 18),
        (36, 1536, 2),
    ]
    size = {tap: 2 * tokens * width for tap, (tokens, width) in said.taps.items()}
    assert round(sum(size.values()) / 1000) == 6857
    assert round(sum(size[tap] for tap in said.stage_ends) / 1000) == 1659
    assert round(sum(list(size.values())[-6:]) / 1000) == 1106
    assert said.stage_ends == ("layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.17", "layers.3.blocks.1")


@pytest.mark.parametrize(
    ("model", "size", "grids"),
    [
        ("swin_tiny_patch4_window7_224", 100, [(25, 25), (13, 13), (7, 7), (4, 4)]),
        ("swinv2_tiny_window8_256", 12, [(3, 3), (2, 2), (1, 1), (1, 1)]),
        ("vit_small_patch14_reg4_dinov2", 70, [(5, 5)]),
    ],
)
def test_any_multiple_of_the_patch_is_a_size(model: str, size: int, grids: list[tuple[int, int]]) -> None:
    said = facts(model, size)
    assert [stage.grid for stage in said.stages] == grids
    with torch.device("meta"):
        built = timm.create_model(model, num_classes=0, img_size=size).eval()
    with torch.inference_mode():
        found = Tapped(built, tuple(said.taps))(torch.empty(1, 3, size, size, device="meta"))
    assert {tap: tuple(tokens.shape[1:]) for tap, tokens in found.items()} == said.taps
    with pytest.raises(UsageError, match="is no multiple of its patch"):
        facts(model, size + 1)


def test_a_models_own_size_is_taken_as_it_was_trained() -> None:
    assert facts("vit_so400m_patch14_siglip_384").stages[0].grid == (27, 27)  # 384 pixels, the last 6 are cut


def test_normalisation_follows_the_tag() -> None:
    """Weights of one architecture may want other colours; a tag says so even where a file is given."""
    usual = facts_of(BackboneChoice("visual", "vit_base_patch16_224"), Timeline()).preprocess
    dino = facts_of(BackboneChoice("visual", "vit_base_patch16_224.dino", "random:0"), Timeline()).preprocess
    assert usual["mean"] == [0.5, 0.5, 0.5]
    assert dino["mean"] == [0.485, 0.456, 0.406]
