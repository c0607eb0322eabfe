"""Adapters of two backbones: the formula, the order in which they run, gradients, and what is kept for them."""

from __future__ import annotations

import htsat_small
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from trunks import HTSAT, Subject, difference, subject

from avpipe.stages.config import TrainConfig
from avpipe.stages.lavish.adapter import Adapter, TokenBatchNorm
from avpipe.stages.lavish.backbones import HALVES, AdaptedBackbones
from avpipe.stages.lavish.pairing import lockstep, met_widths

SMALL = {"meta_tokens": 2, "rank": 8, "heads": 4}


@pytest.fixture(autouse=True, scope="module")
def small_htsat():
    with pytest.MonkeyPatch.context() as patch:
        htsat_small.shrink(patch)
        yield


def stirred(module):
    """All parameters redrawn, gates too, so that nothing is left out because it is zero."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def batch_norm(norm: TokenBatchNorm, x: Tensor) -> Tensor:
    """Over tokens and segments, from batch or running statistics."""
    mean, variance = norm.mean, norm.variance
    if norm.training:
        mean, variance = x.mean((0, 1)), x.var((0, 1), correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias


def grouped(weight: Tensor, x: Tensor) -> Tensor:
    """Each group of channels by itself."""
    return torch.cat([part @ w for part, w in zip(x.chunk(len(weight), -1), weight, strict=True)], -1)


def written_out(adapter: Adapter, x: Tensor, y: Tensor) -> Tensor:
    """The formula word for word, segment by segment as far as segments are apart."""
    rows = []
    for own, other in zip(x, y, strict=True):
        mapped = other if adapter.meet is None else adapter.meet(other)
        latents = adapter.latents + torch.softmax(adapter.latents @ mapped.T, dim=-1) @ mapped
        rows.append(own + adapter.gamma * torch.softmax(own @ latents.T, dim=-1) @ latents)
    mixed = adapter.norm(torch.stack(rows))
    narrow = torch.relu(batch_norm(adapter.norm_down, grouped(adapter.down.weight, mixed)))
    return adapter.gate * adapter.norm_out(batch_norm(adapter.norm_up, grouped(adapter.up.weight, narrow)))


@pytest.mark.parametrize("other", [12, 20])
@pytest.mark.parametrize("training", [True, False])
def test_an_adapter_is_the_formula(other, training):
    adapter = stirred(Adapter(12, other, latents=3, width=6)).train(training)
    adapter.norm_up.mean += 0.5
    adapter.norm_down.variance *= 3
    x, y = torch.randn(4, 7, 12, requires_grad=True), torch.randn(4, 5, other, requires_grad=True)
    wanted = [x, y, *adapter.parameters()]
    grads = []
    for function in (adapter, lambda a, b: written_out(adapter, a, b)):
        out = function(x, y)
        grads.append((out, torch.autograd.grad((out * torch.linspace(-1, 1, 12)).sum(), wanted, allow_unused=True)))
    (ours, our_grads), (theirs, their_grads) = grads
    assert difference(ours.detach(), theirs.detach()) < 1e-5
    for found, expected in zip(our_grads, their_grads, strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_only_the_norms_statistics_of_training_are_kept():
    norm = TokenBatchNorm(3)
    x = torch.randn(5, 4, 3) * 2 + 1
    norm(x)
    assert norm.mean.allclose(0.1 * x.mean((0, 1)))
    assert norm.variance.allclose(0.9 + 0.1 * x.var((0, 1)))
    before = norm.mean.clone()
    norm.eval()(x)
    assert norm.mean.equal(before)
    assert {"mean", "variance"} <= set(norm.state_dict())


def test_a_new_adapter_adds_nothing_and_learns_its_gate_first():
    torch.manual_seed(0)
    adapter = Adapter(8, 8, latents=2, width=4)
    x, y = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    out = adapter(x, y)
    assert out.abs().max() == 0
    (out * torch.randn_like(out)).sum().backward()
    moved = {name for name, p in adapter.named_parameters() if p.grad.abs().max() > 0}
    assert moved == {"gate"}
    assert 0 <= adapter.latents.min() < adapter.latents.max() < 1


def blocks(*counts):
    """Names of the blocks of stages, or of a backbone without."""
    if len(counts) == 1:
        return tuple(f"blocks.{i}" for i in range(counts[0]))
    return tuple(f"layers.{stage}.blocks.{i}" for stage, count in enumerate(counts) for i in range(count))


def test_swin_and_htsat_are_paired_as_published():
    steps = lockstep(("visual", blocks(2, 2, 18, 2)), ("audio", blocks(2, 2, 6, 2)))
    assert len(steps) == 24
    pairs = {step["audio"]: step["visual"] for step in steps if len(step) == 2}
    third = {f"layers.2.blocks.{j}": f"layers.2.blocks.{i}" for j, i in enumerate((2, 5, 8, 11, 14, 17))}
    others = {name: name for name in blocks(2, 2, 6, 2) if name not in third}
    assert pairs == {**others, **third}


@pytest.mark.parametrize(
    ("visual", "audio", "together"),
    [((12,), (12,), 12), ((12,), (2, 2, 6, 2), 12), ((2, 2, 18, 2), (12,), 12), ((7,), (3,), 3), ((2, 5), (1, 3), 4)],
)
def test_every_block_runs_once_and_in_order(visual, audio, together):
    steps = lockstep(("visual", blocks(*visual)), ("audio", blocks(*audio)))
    assert tuple(step["visual"] for step in steps if "visual" in step) == blocks(*visual)
    assert tuple(step["audio"] for step in steps if "audio" in step) == blocks(*audio)
    assert sum(len(step) == 2 for step in steps) == together
    assert len(steps[-1]) == 2


def test_a_block_without_a_partner_meets_what_there_is():
    widths = {"visual": dict(zip(blocks(1, 2), (8, 16, 16), strict=True)), "audio": {"layers.0.blocks.0": 4}}
    widths["audio"]["layers.1.blocks.0"] = 6
    steps = lockstep(("visual", list(widths["visual"])), ("audio", list(widths["audio"])))
    assert [len(step) for step in steps] == [2, 1, 2]
    met = met_widths(steps, widths)
    assert met["visual"] == {"layers.0.blocks.0": 4, "layers.1.blocks.0": 4, "layers.1.blocks.1": 6}
    assert met["audio"] == {"layers.0.blocks.0": 8, "layers.1.blocks.0": 16}


PAIRS = [("ViT", "EVA-02"), ("Swin", HTSAT), ("DINOv2", HTSAT)]


def pair(visual: str, audio: str, **settings):
    """Adapters of two small backbones, the media of two segments, and the two."""
    both: dict[str, Subject] = {"visual": subject(visual), "audio": subject(audio)}
    widths = {m: {tap: shape[1] for tap, shape in one.facts.taps.items()} for m, one in both.items()}
    torch.manual_seed(3)
    adapted = AdaptedBackbones(widths, TrainConfig(**SMALL, **settings), {m: one.trunk() for m, one in both.items()})
    return adapted, {m: one.media for m, one in both.items()}, both


def every(both):
    return {modality: one.taps for modality, one in both.items()}


@pytest.mark.parametrize(("visual", "audio"), PAIRS)
@torch.no_grad()
def test_with_closed_gates_the_backbones_are_as_they_were(visual, audio):
    adapted, media, both = pair(visual, audio)
    found = adapted(media, every(both))
    for modality, one in both.items():
        assert list(found[modality]) == list(one.taps)
        assert max(difference(found[modality][tap], one.full[tap]) for tap in one.taps) < 1e-6


def test_no_part_of_a_backbone_is_trained_or_saved():
    adapted, _, both = pair("ViT", "EVA-02")
    names = {f"{m}_{tap.replace('.', '_')}_{half}" for m, one in both.items() for tap in one.taps for half in HALVES}
    assert {name.split(".")[1] for name in adapted.state_dict()} == names
    assert all(name.startswith("adapters.") for name in adapted.state_dict())


@torch.no_grad()
def test_two_blocks_side_by_side_meet_each_other_as_they_were():
    adapted, media, both = pair("ViT", "EVA-02")
    stirred(adapted).eval()
    trunks = {m: one.trunk() for m, one in both.items()}
    x, y = (trunks[m].embed(media[m]) for m in ("visual", "audio"))
    for block in both["visual"].taps:
        for half in HALVES:
            sight, sound = (adapted.adapters[f"{m}_{block.replace('.', '_')}_{half}"] for m in ("visual", "audio"))
            new = getattr(trunks["visual"], half)(block, x) + sight(x, y)
            x, y = new, getattr(trunks["audio"], half)(block, y) + sound(y, x)
    found = adapted(media, {"visual": (block,), "audio": (block,)})
    assert difference(found["visual"][block], x) < 1e-6
    assert difference(found["audio"][block], y) < 1e-6
    assert difference(x, both["visual"].full[block]) > 1e-2


def test_unequal_depths_run_in_the_order_of_the_steps():
    adapted, media, both = pair("Swin", HTSAT)
    called = []
    for name, adapter in adapted.adapters.items():
        adapter.register_forward_hook(
            lambda module, given, out, name=name: called.append((name, given[0].shape[1], given[1].shape[1]))
        )
    with torch.no_grad():
        adapted(media, every(both))
    tokens = {m: {tap: shape[0] for tap, shape in one.facts.taps.items()} for m, one in both.items()}
    third = [each for each in called if "layers_2" in each[0] and each[0].endswith("attention")]
    deep = tokens["visual"]["layers.2.blocks.0"]
    early, late = (tokens["audio"][f"layers.{stage}.blocks.1"] for stage in (1, 2))
    assert third == [
        ("visual_layers_2_blocks_0_attention", deep, early),  # sound is still in its second stage
        ("visual_layers_2_blocks_1_attention", deep, late),
        ("audio_layers_2_blocks_0_attention", late, deep),
        ("visual_layers_2_blocks_2_attention", deep, late),
        ("visual_layers_2_blocks_3_attention", deep, late),
        ("audio_layers_2_blocks_1_attention", late, deep),
    ]


def loss_of(adapted, media, both):
    last = {m: (one.taps[-1],) for m, one in both.items()}
    found = adapted(media, last)
    return sum(functional.mse_loss(x, torch.ones_like(x)) for taps in found.values() for x in taps.values())


@pytest.mark.parametrize(("visual", "audio"), PAIRS)
def test_gradients_reach_every_adapter_through_the_frozen_blocks(visual, audio):
    adapted, media, both = pair(visual, audio)
    stirred(adapted)
    loss_of(adapted, media, both).backward()
    assert not [name for name, p in adapted.named_parameters() if not p.grad.abs().max() > 0]
    assert all(p.grad is None for trunk in adapted.outside[0].values() for p in trunk.parameters())


def kept_bytes(adapted, media, both):
    """What autograd keeps between forward and backward."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss_of(adapted, media, both)
    return sum(kept.values())


def test_checkpointing_changes_memory_alone():
    found = []
    for mode in ("off", "on"):
        adapted, media, both = pair("ViT", "EVA-02", checkpointing=mode)
        stirred(adapted)
        loss = loss_of(adapted, media, both)
        loss.backward()
        found.append((loss, [p.grad for p in adapted.parameters()], list(adapted.buffers())))
    assert found[0][0].equal(found[1][0])
    for ours, theirs in zip(found[0][1] + found[0][2], found[1][1] + found[1][2], strict=True):
        assert ours.allclose(theirs, rtol=1e-5, atol=1e-8)
    plain, saving = (kept_bytes(*pair("ViT", "EVA-02", checkpointing=mode)) for mode in ("off", "on"))
    assert saving < plain / 4


def test_nothing_is_kept_where_no_gradient_is_wanted():
    adapted, media, both = pair("ViT", "EVA-02", checkpointing="on")
    with torch.no_grad():
        assert kept_bytes(adapted, media, both) == 0
    with pytest.raises(ValueError, match="without its visual backbone"):
        AdaptedBackbones({"visual": {"blocks.0": 8}, "audio": {"blocks.0": 8}}, TrainConfig())(media, every(both))
