"""Backbones block by block: running on equals running through, forward and backward, and what is left out shows."""

from __future__ import annotations

from itertools import pairwise

import htsat_small
import pytest
import torch
import trunks
from timm.models.vision_transformer import ParallelScalingBlock
from timm_small import frames
from torch import Tensor
from trunks import HTSAT, NAMES, Subject, difference, run_on, subject, worst

from avpipe.pipeline.cache import Spec
from avpipe.pipeline.errors import CacheMismatch, UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, timm_halves
from avpipe.stages.backbones.reopen import open_trunk
from avpipe.stages.backbones.timm_model import make_front_end
from avpipe.stages.backbones.trunk import Trunk, key

LIMIT = 1e-6
SHOWS = 1e-3
SEEN = 0.3
STAGED = ("Swin", "Swin-V2", HTSAT)
ROTARY = ("DINOv3", "mixed RoPE", "EVA-02", "EVA-02 CLIP", "Sapiens2")


@pytest.fixture(autouse=True, scope="module")
def small_htsat():
    with pytest.MonkeyPatch.context() as patch:
        htsat_small.shrink(patch)
        yield


def _resumed(found: Subject, first: str, last: str = "") -> tuple[Trunk, Tensor]:
    """The trunk from a block on, and what that block takes: the stored tap before it, or the stored media."""
    trunk, number = found.trunk(first, last), found.taps.index(first)
    return trunk, found.full[found.taps[number - 1]] if number else trunk.embed(found.media)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_running_on_equals_running_through_from_every_block(name):
    found = subject(name)
    for number, first in enumerate(found.taps):
        trunk, x = _resumed(found, first)
        tokens = run_on(trunk, x)
        assert tuple(tokens) == trunk.names == found.taps[number:]
        assert {tap: each.shape[1:] for tap, each in tokens.items()} == {t: found.facts.taps[t] for t in tokens}
        assert worst(tokens, found.full) <= LIMIT, first


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_block_changes_its_input(name):
    """So that a block left out must show."""
    found = subject(name)
    trunk = found.trunk()
    before = [trunk.embed(found.media), *found.full.values()]
    for tap, x in zip(found.taps, before, strict=False):
        assert difference(found.full[tap], trunk.merge(tap, x)) >= SEEN, tap


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_block_left_out_shows(name):
    found = subject(name)
    trunk = found.trunk()
    for number, (first, second) in enumerate(pairwise(found.taps)):
        x = found.full[found.taps[number - 1]] if number else trunk.embed(found.media)
        assert worst(run_on(trunk, x, first, second), found.full) <= LIMIT
        block = trunks.skip(trunk, second)
        assert worst(run_on(trunk, x, first, second), found.full) > SHOWS, second
        trunk.blocks[key(second)] = block


@pytest.mark.parametrize("name", ROTARY)
@torch.no_grad()
def test_rotary_positions_left_out_show(name):
    found = subject(name)
    for first in found.taps:
        trunk, x = _resumed(found, first, first)
        trunks.unrotate(trunk)
        assert worst(run_on(trunk, x), found.full) > SHOWS, first


@pytest.mark.parametrize("name", STAGED)
@torch.no_grad()
def test_a_shift_left_out_shows(name):
    found = subject(name)
    shifted = [tap for tap in found.taps[1::2] if found.facts.grids[tap] > (8, 8)]  # a window covers smaller grids
    assert len(shifted) >= 2
    for tap in shifted:
        trunk, x = _resumed(found, tap, tap)
        trunks.unshift(trunk, tap)
        assert worst(run_on(trunk, x), found.full) > SHOWS, tap


@pytest.mark.parametrize("name", STAGED)
@torch.no_grad()
def test_another_merge_shows(name):
    found = subject(name)
    for tap in (each for each in found.taps if each.endswith("blocks.0") and not each.startswith("layers.0")):
        trunk, x = _resumed(found, tap, tap)
        assert list(trunk.merges) == [key(tap)]
        trunk.merges[key(tap)] = trunks.MeanOfFour()
        assert worst(run_on(trunk, x), found.full) > SHOWS, tap


@pytest.mark.parametrize("name", NAMES)
def test_gradients_at_every_block_are_those_of_a_pass_through_all(name):
    found = subject(name)
    weight = torch.randn(found.full[found.taps[-1]].shape, generator=torch.Generator().manual_seed(0))
    expected = trunks.gradients(found.loaded(), make_front_end(found.facts), found.media, weight)
    assert tuple(expected) == found.taps
    trunk, x = _resumed(found, found.taps[1])
    assert not [each for each in trunk.parameters() if each.requires_grad]
    tokens = {found.taps[0]: x.clone().requires_grad_()}
    tokens |= run_on(trunk, tokens[found.taps[0]])
    for each in tokens.values():
        each.retain_grad()
    (tokens[found.taps[-1]] * weight).sum().backward()
    for tap, each in tokens.items():
        assert each.grad is not None
        assert difference(each.grad, expected[tap]) <= 1e-5, tap


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_halves_of_a_block_make_the_block(name, precision):
    found = subject(name, precision)
    trunk, x = found.trunk(), subject(name).full[found.taps[0]]
    generator = torch.Generator().manual_seed(0)
    for parameter in trunk.parameters():
        if parameter.ndim == 1:  # gains, biases, LayerScale: of drawn weights they are 1 and 0, which would hide some
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    for tap in found.taps[1:]:
        merged = trunk.merge(tap, x)
        attended = trunk.attention(tap, merged)
        found_whole, x = trunk.feed_forward(tap, attended), trunk.block(tap, x)
        assert found_whole.shape == x.shape
        assert difference(found_whole.float(), x.float()) <= LIMIT, tap
        assert min(difference(attended, merged), difference(x, attended)) > 1e-2, tap


@pytest.mark.parametrize("name", ["ViT", "Swin-V2", HTSAT])
@torch.no_grad()
def test_a_trunk_has_its_blocks_and_nothing_else(name):
    found = subject(name)
    first, last = found.taps[2], found.taps[-2]
    trunk, every = found.trunk(first, last), found.trunk()
    assert trunk.names == found.taps[2:-1]
    assert trunk.weights_sha256 == every.weights_sha256 == found.loaded().weights_sha256
    numbers = [sum(each.numel() for each in part.parameters()) for part in (trunk, trunk.blocks, trunk.merges)]
    assert numbers[0] == numbers[1] + numbers[2]
    whole = {n: sum(each.numel() for each in every.blocks[key(n)].parameters()) for n in found.taps}
    assert numbers[1] == sum(whole[n] for n in trunk.names)
    assert not trunk.train().training
    with pytest.raises(ValueError, match=rf"begins with {first}"):
        trunk.embed(found.media)


@pytest.mark.parametrize(
    ("name", "front_end", "square"),
    [
        ("ViT", "lavish", True),
        ("DeiT", "ast", False),
        ("EVA-02, norm behind", "logmel", False),
        ("Swin", "logmel", False),
    ],
)
@torch.no_grad()
def test_timms_models_on_sound(name, front_end, square):
    found = trunks.on_sound(name, front_end)
    rows, columns = found.facts.grids[found.taps[0]]
    assert (rows == columns) == square
    for first in found.taps[::3]:
        trunk, x = _resumed(found, first)
        assert worst(run_on(trunk, x), found.full) <= LIMIT


@pytest.mark.parametrize("name", ["ViT", "Swin", HTSAT])
@torch.no_grad()
def test_bfloat16_from_media_on_is_stage_ones(name):
    found = subject(name, "bfloat16")
    trunk = found.trunk()
    assert worst(run_on(trunk, trunk.embed(found.media)), found.full) <= LIMIT
    assert worst(found.full, subject(name).full) > SHOWS


@pytest.mark.parametrize("name", ["ViT", *STAGED])
@torch.no_grad()
def test_bfloat16_goes_on_in_the_type_of_a_whole_pass(name):
    found = subject(name, "bfloat16")
    trunk, worse = found.trunk(), []
    assert found.trunk(found.taps[2]).stream == trunk.stream
    type_, other = (torch.bfloat16, torch.float32)[:: 1 if name in STAGED else -1]
    for before, first in pairwise(found.taps):
        x = trunk.resume(before, found.full[before])
        assert x.dtype == type_
        assert torch.equal(trunk.block(first, x).float(), found.full[first]), first  # so all behind it are equal, too
        worse.append(difference(trunk.block(first, x.to(other)).float(), found.full[first]))
    assert max(worse) > SHOWS


def test_a_block_of_another_kind_is_refused_in_words():
    block, x = ParallelScalingBlock(8, 2), torch.zeros(1, 4, 8)
    for half in (lambda: timm_halves.attention(block, x, (2, 2), None), lambda: timm_halves.feed_forward(block, x)):
        with pytest.raises(UsageError, match=r"ParallelScalingBlock has no attention followed by .* Block, EvaBlock"):
            half()


def _spec(choice: BackboneChoice, sha256: str = "", **fields: bool) -> Spec:
    """What a cache says of a modality, as far as a trunk needs it."""
    facts = facts_of(choice, Timeline())
    known = {"backbone": facts.fields(), "weights": {"sha256": sha256}}
    return Spec.of(choice.modality, {**known, **fields}, choice.request())


@torch.no_grad()
def test_the_backbone_of_a_cache_is_opened_again():
    choice = BackboneChoice("visual", "test_vit", "demo")
    found = trunks.whole(choice, torch.from_numpy(frames(160)))
    spec = _spec(choice, found.loaded().weights_sha256)
    trunk = open_trunk(spec, first="blocks.2", device="cpu")
    assert trunk.names == found.taps[2:]
    assert worst(run_on(trunk, found.full["blocks.1"]), found.full) <= LIMIT
    assert open_trunk(spec, last="blocks.3", device="cpu").names == found.taps[:4]


def test_other_weights_than_the_features_are_refused():
    spec = _spec(BackboneChoice("visual", "test_vit", "random:0"), "0123456789abcdef")
    with pytest.raises(CacheMismatch, match=r"made with weights 0123456789ab, random:0 of test_vit now gives"):
        open_trunk(spec, device="cpu")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_spec(BackboneChoice("visual", "test_vit", "random:0"), imported=True), "were imported: no backbone here"),
        (_spec(BackboneChoice("audio", "htsat", "random:0", window="clip")), "extract with --audio-window segment"),
        (_spec(BackboneChoice("visual", "stub", "random:0")), "cannot be run block by block"),
    ],
)
def test_what_no_block_can_go_on_from_is_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        open_trunk(spec, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "firsts"),
    [
        ("vit_base_patch16_224", 224, ("blocks.0", "blocks.3", "blocks.9")),
        ("swinv2_large_window12_192", 192, ("layers.0.blocks.0", "layers.2.blocks.0", "layers.2.blocks.13")),
    ],
)
@torch.no_grad()
def test_whole_models(model, size, firsts):
    """The same with nothing made small, and forward only."""
    found = trunks.whole(BackboneChoice("visual", model, "random:3"), torch.from_numpy(frames(size)))
    for first in firsts:
        trunk, x = _resumed(found, first)
        assert worst(run_on(trunk, x), found.full) <= LIMIT, first
    skipped = found.taps[-2]
    trunk, x = _resumed(found, firsts[-1])
    trunks.skip(trunk, skipped)
    assert worst(run_on(trunk, x), found.full) > SHOWS
