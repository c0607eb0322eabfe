"""Injection into a backbone that runs again: equal to the frozen one, to a run from the frames on, and to its words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mti_toy import CONFIG, bench
from timm_small import CASES
from torch import Tensor, nn

from avpipe.stages.features import FeatureBatch
from avpipe.stages.model import build_model

EQUAL, SAME_GRADIENT, SHOWS = 1e-6, 1e-5, 1e-3
FAMILIES = ("ViT", "Swin-V2")
FIRST_BLOCKS = [(name, first) for name in FAMILIES for first in CASES[name].facts().taps]


def apart(a: Tensor, b: Tensor) -> float:
    """Relative difference of two tensors."""
    return float((a - b).norm() / b.norm())


def logits(model: nn.Module, batch: FeatureBatch) -> Tensor:
    """In evaluation."""
    with torch.no_grad():
        found: Tensor = model.eval()(batch)
    return found


def trained(model: nn.Module, batch: FeatureBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits in training, and the gradient of every parameter for a loss that weighs each logit."""
    found = model.train()(batch)
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    (found * weights).sum().backward()
    return found.detach(), {name: p.grad for name, p in model.named_parameters()}


def seen(model: nn.Module, batch: FeatureBatch) -> dict[str, Tensor]:
    """The visual tokens that the decoder is given."""
    taken: dict[str, Tensor] = {}
    handle = model.head.register_forward_pre_hook(lambda module, args: taken.update(args[0]))
    logits(model, batch)
    handle.remove()
    return taken


def frozen(toy, **settings) -> Tensor:
    """Logits of the plain model on the cached tokens of the whole backbone."""
    spec = toy.spec((), "")
    return logits(toy.model(spec, inject="none"), toy.batch(spec))


@pytest.mark.parametrize(("name", "first"), FIRST_BLOCKS)
def test_with_closed_gates_it_is_the_frozen_model(name, first):
    toy = bench(name)
    injected, resume = toy.every_second(first), toy.before(first)
    for inject in ("rerun", "side") if resume else ("rerun",):
        spec = toy.spec(injected, resume)
        found = logits(toy.model(spec, inject=inject), toy.batch(spec, inject=inject))
        assert apart(found, frozen(toy)) <= EQUAL


@pytest.mark.parametrize(("name", "first"), FIRST_BLOCKS)
def test_resumed_is_run_from_the_frames_on(name, first):
    toy = bench(name)
    injected, resume = toy.every_second(first), toy.before(first)
    found = {}
    for start in (resume, ""):
        spec = toy.spec(injected, start)
        batch = toy.batch(spec)
        assert ("visual" in batch.media) == (not start)
        found[start] = trained(toy.model(spec, gates=1.0), batch)
    (resumed, gradients), (full, theirs) = found[resume], found[""]
    assert apart(resumed, full) <= EQUAL
    assert apart(full, frozen(toy)) > SHOWS
    assert gradients.keys() == theirs.keys()
    for key, gradient in gradients.items():
        assert apart(gradient, theirs[key]) <= SAME_GRADIENT, key


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_left_out_shows(name, monkeypatch):
    toy = bench(name)
    first, skipped = toy.names[1], toy.names[-1]
    spec = toy.spec((first,), toy.before(first))
    right = logits(toy.model(spec, gates=1.0), toy.batch(spec))
    run = toy.trunk.block
    monkeypatch.setattr(toy.trunk, "block", lambda block, x: x if block == skipped else run(block, x))
    assert apart(logits(toy.model(spec, gates=1.0), toy.batch(spec)), right) > SHOWS


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_injected_reaches_the_taps_from_there_on(name):
    toy = bench(name)
    for first in toy.names[1::3]:
        for start in (toy.before(first), ""):
            spec = toy.spec((first,), start)
            taps = seen(toy.model(spec, gates=1.0), toy.batch(spec))
            where = toy.names.index(first) - 1  # the tap before the block holds what the block is given
            for place, tap in enumerate(toy.names):
                change = apart(taps[tap], toy.tokens[tap])
                assert change <= EQUAL if place < where else change > SHOWS, (first, start, tap)


@pytest.mark.parametrize("name", FAMILIES)
def test_beside_the_backbone_only_the_tap_before_changes(name):
    toy = bench(name)
    chosen = (toy.names[1], toy.names[3])
    spec = toy.spec(chosen, toy.names[0])
    taps = seen(toy.model(spec, gates=1.0, inject="side"), toy.batch(spec, inject="side"))
    again = seen(toy.model(spec, gates=1.0), toy.batch(spec))
    for tap in toy.names:
        changed = apart(taps[tap], toy.tokens[tap]) > SHOWS
        assert changed == (tap in (toy.names[0], toy.names[2])), tap
    assert torch.equal(taps[toy.names[0]], again[toy.names[0]])  # the first injection is the same either way


def kept_bytes(model: nn.Module, batch: FeatureBatch) -> int:
    """Bytes that a forward pass in training keeps for the backward pass, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    own |= {p.untyped_storage().data_ptr() for p in model.outside[0].parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = model.train()(batch)
    assert result.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_keeps_less_and_changes_nothing(name):
    toy = bench(name, wanted=CASES[name].facts().stage_ends if name != "ViT" else ())
    spec = toy.spec((toy.names[1], toy.names[3]), toy.names[0])
    off, on = (toy.model(spec, gates=1.0, checkpointing=value) for value in ("off", "on"))
    batch = toy.batch(spec)
    (plain, gradients), (saving, theirs) = trained(off, batch), trained(on, batch)
    assert torch.equal(plain, saving)
    for key, gradient in gradients.items():
        assert apart(theirs[key], gradient) <= EQUAL, key
    assert kept_bytes(on, batch) < 0.7 * kept_bytes(off, batch)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_kept_before_the_first_injection(name):
    toy = bench(name, wanted=CASES[name].facts().stage_ends)
    last = toy.names[-1]
    resumed, full = (toy.spec((last,), start) for start in (toy.before(last), ""))
    sizes = [kept_bytes(toy.model(spec, gates=1.0), toy.batch(spec)) for spec in (resumed, full)]
    assert sizes[0] == sizes[1]


def test_the_backbone_is_no_part_of_the_model():
    toy = bench("ViT")
    spec = toy.spec(toy.names[1:3], toy.names[0])
    model = toy.model(spec)
    plain = toy.model(toy.spec((), ""), inject="none")
    added = {
        f"injections.blocks_{i}.{part}" for i in (1, 2) for part in dict(model.injections.blocks_1.named_parameters())
    }
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()} | added
    assert model.state_dict().keys() == plain.state_dict().keys() | added
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name  # drawn before the injections, so alike
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters()}
    assert not any(p.requires_grad for p in toy.trunk.parameters())


def test_without_trunks_there_is_a_model_but_no_forward_pass():
    toy = bench("ViT")
    spec = toy.spec(toy.names[1:3], toy.names[0])
    sizes = [sum(p.numel() for p in m.parameters()) for m in (toy.model(spec), build_model(spec, CONFIG))]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match="runs the visual backbone: build it with the trunks of `open_trunks`"):
        build_model(spec, CONFIG)(toy.batch(spec))


def test_evaluation_keeps_nothing():
    toy = bench("ViT")
    spec = toy.spec(toy.names[1:3], toy.names[0])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        found = logits(toy.model(spec, gates=1.0, checkpointing="on"), toy.batch(spec))
    assert not found.requires_grad
    assert kept == []


@pytest.mark.parametrize("start", ["resumed", "full"])
def test_taps_of_another_codec_and_fewer_of_them(start):
    """Only the taps that the decoder wants are read or kept; the backbone runs as far as the last of them."""
    toy, whole = bench("ViT", ("blocks.0", "blocks.2"), "@float32"), bench("ViT", ("blocks.0", "blocks.2"))
    resume = "blocks.1" if start == "resumed" else ""
    spec = toy.spec(("blocks.2",), resume)
    batch = toy.batch(spec)
    names = {"blocks.0@float32", "blocks.1@float32", "blocks.2@float32"} if resume else {"blocks.2@float32"}
    assert set(batch.tokens["visual"]) == names
    asked: list[str] = []
    run = toy.trunk.block
    toy.trunk.block = lambda block, x: asked.append(block) or run(block, x)
    taps = seen(toy.model(spec, gates=1.0), batch)
    assert asked == (["blocks.2"] if resume else ["blocks.0", "blocks.1", "blocks.2"])
    assert set(taps) == {"blocks.0@float32", "blocks.2@float32"}
    plain = whole.spec(("blocks.2",), resume)
    theirs = logits(whole.model(plain, gates=1.0), whole.batch(plain))
    assert torch.equal(logits(toy.model(spec, gates=1.0), batch), theirs)


def test_a_stored_prefix_in_half_precision_is_computed_in_single():
    toy = bench("ViT")
    spec = toy.spec(("blocks.2",), "blocks.1")
    batch = toy.batch(spec)
    halves = {m: {tap: x.half() for tap, x in taps.items()} for m, taps in batch.tokens.items()}
    model = toy.model(spec, gates=1.0)
    found = seen(model, FeatureBatch(batch.indices, halves, batch.present, batch.valid))
    assert found["blocks.3"].dtype == torch.float32
    assert 0 < apart(found["blocks.3"], seen(model, batch)["blocks.3"]) < 2e-3


@pytest.mark.parametrize("start", ["resumed", "full"])
def test_padding_is_neither_run_nor_seen(start, monkeypatch):
    toy = bench("Swin-V2")
    spec = toy.spec((toy.names[3],), toy.names[2] if start == "resumed" else "")
    model, batch = toy.model(spec, gates=1.0), toy.batch(spec)
    whole, ran, run = logits(model, batch), [], toy.trunk.block
    monkeypatch.setattr(toy.trunk, "block", lambda block, x: ran.append(len(x)) or run(block, x))
    present = torch.tensor([[True, False], [True, True]])
    padded = padded_like(batch, present)
    found, gradients = trained(model, padded)
    assert set(ran) == {3}
    assert found.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    found = logits(model, padded)
    assert apart(found[present], whole[present]) <= EQUAL
    assert apart(found[0, 1], whole[0, 1]) > SHOWS


def padded_like(batch: FeatureBatch, present: Tensor) -> FeatureBatch:
    """The batch as if its first clip had one segment, repeated where it is padded."""

    def repeated(x: Tensor) -> Tensor:
        x = x.clone()
        x[0, 1] = x[0, 0]
        return x

    tokens = {m: {tap: repeated(x) for tap, x in taps.items()} for m, taps in batch.tokens.items()}
    media = {m: repeated(x) for m, x in batch.media.items()}
    return replace(batch, tokens=tokens, media=media, present=present, valid=present)


@pytest.mark.parametrize("settings", [{}, {"checkpointing": "on"}, {"inject": "side"}], ids=str)
def test_the_distiller_learns_through_injections_alone(settings):
    """The decoder is given constants for what was distilled, and (unless beside) a tap behind frozen blocks alone."""
    toy = bench("ViT", ("blocks.1",) if settings.get("inject") == "side" else ("blocks.3",))
    spec = toy.spec(("blocks.2",), "blocks.1")
    model, batch = toy.model(spec, gates=1.0, **settings).train(), toy.batch(spec, **settings)
    with torch.no_grad():
        constant = model.distiller(batch.tokens, batch.statistics)
    model.head.register_forward_pre_hook(lambda module, args: (args[0], constant))

    def loss() -> Tensor:
        found = model(batch)
        return (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum()

    loss().backward()
    learning = {name: p for name, p in model.distiller.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[1] for name in learning} == {"audio", "visual"}
    length = float(torch.stack([p.grad.norm() for p in learning.values()]).norm())
    values = []
    for step in (1e-2, -1e-2):  # along the gradient and against it: finite differences
        with torch.no_grad():
            for p in learning.values():
                p += step * p.grad / length
            values.append(float(loss()))
            for p in learning.values():
                p -= step * p.grad / length
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(length, rel=0.02)


def test_in_bfloat16_too_resumed_is_full_and_closed_gates_are_the_frozen_model():
    """The sum of a Swin's blocks goes on in bfloat16, a ViT's in float32, whatever is stored."""
    for name, type_ in (("ViT", torch.float32), ("Swin-V2", torch.bfloat16)):
        toy = bench(name, precision="bfloat16")
        assert {toy.trunk.stream[tap] for tap in toy.names} == {type_}
        plain = frozen(toy)
        for first in toy.names[1::4]:
            specs = [toy.spec(toy.every_second(first), start) for start in (toy.before(first), "")]
            assert all(torch.equal(logits(toy.model(spec), toy.batch(spec)), plain) for spec in specs), first
            resumed, full = (logits(toy.model(spec, gates=1.0), toy.batch(spec)) for spec in specs)
            assert torch.equal(resumed, full), first
            assert apart(full, plain) > SHOWS


@pytest.mark.parametrize("inject", ["rerun", "side"])
def test_sight_alone(inject):
    toy = bench("ViT")
    spec = toy.spec(("blocks.2",), "blocks.1", ("visual",))
    batch = toy.batch(spec, inject=inject, modality="visual")
    assert set(batch.tokens) == {"visual"}
    found = logits(toy.model(spec, gates=1.0, inject=inject), batch)
    assert apart(found, logits(toy.model(spec, inject=inject), batch)) > SHOWS
