"""Distillers: LCD against its formulas written out, the control, and what heads may rely on."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional

from avpipe.pipeline.errors import UsageError
from avpipe.stages import distill
from avpipe.stages.attention import StoredTokens
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill.lcd_layer import LayerDistiller, LowRankAttention
from avpipe.stages.statistics import token_statistics

B, T = 2, 3
SHAPES = {"audio": {"blocks.0": (9, 16), "blocks.1": (9, 24)}, "visual": {"blocks.2": (17, 32)}}


def random_tokens(dtype=torch.float16):
    make = torch.Generator().manual_seed(0)
    return {
        m: {tap: torch.randn(B, T, n, c, generator=make).to(dtype) for tap, (n, c) in taps.items()}
        for m, taps in SHAPES.items()
    }


def shaken(module):
    """Every parameter away from its start value, so that no term vanishes."""
    make = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=make))
    return module


def layer(channels, meta_tokens, **settings):
    """One layer's distiller and its meta-tokens, away from their start values."""
    torch.manual_seed(1)
    module = nn.Module()
    module.distil = LayerDistiller(channels, TrainConfig(**settings))
    module.meta = nn.Parameter(torch.randn(meta_tokens, channels) * 0.02)
    return shaken(module)


def written_out(module, x):
    """m = P + gate * T with LN(X), keys and values as they stand in the formulas."""
    layer, c = module.distil, x.shape[-1]
    query = layer.query_norm(module.meta)
    low_rank = layer.adapt if isinstance(layer.adapt, LowRankAttention) else None
    normed = functional.layer_norm(x, (c,), layer.token_gain, low_rank.token_bias if low_rank else None, 1e-5)
    kept = (query @ normed.transpose(1, 2) / c**0.5).softmax(-1) @ x
    if layer.adapt is None:
        return kept
    if low_rank is None:
        t = layer.adapt
        adapted = t.up(functional.gelu(t.down(functional.layer_norm(kept, (c,), t.norm.weight, t.norm.bias))))
    else:
        q, k, v = query @ low_rank.to_query, normed @ low_rank.to_key, normed @ low_rank.to_value
        parts = []
        for part in torch.arange(q.shape[-1]).chunk(low_rank.heads):
            weights = (q[:, part] @ k[..., part].transpose(1, 2) / len(part) ** 0.5).softmax(-1)
            parts.append(weights @ v[..., part])
        adapted = torch.cat(parts, -1) @ low_rank.back
    return adapted if layer.gate is None else kept + layer.gate * adapted


VARIANTS = [
    {"heads": 2, "rank": 64},  # 3 * 2 queries for each token against 64 keys and values: absorbed
    {"heads": 4, "rank": 8},  # projected
    {"gate": "scalar"},
    {"adapt": "bottleneck"},
    {"branches": "keep"},
    {"branches": "adapt"},
    {"branches": "adapt", "adapt": "bottleneck"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_follows_the_formulas_in_output_and_every_gradient(settings):
    module = layer(24, 3, **settings)
    x = torch.randn(5, 11, 24)
    x[..., 7] *= 100
    pull = torch.randn(5, 3, 24)
    results = []
    for run, one, tokens in (
        (written_out, deepcopy(module).double(), x.double()),
        (lambda m, tokens: m.distil(m.meta, StoredTokens(tokens)), module, x),
    ):
        out = run(one, tokens)
        out.backward(pull.to(out.dtype))
        results.append({"out": out.detach(), **{name: p.grad for name, p in one.named_parameters()}})
    reference, ours = results
    worst = {name: float((reference[name] - ours[name]).abs().max() / reference[name].abs().max()) for name in ours}
    assert max(worst.values()) < 1e-5, worst


def test_gate_is_a_value_per_channel_or_one_and_starts_at_zero():
    for kind, count in (("channel", 24), ("scalar", 1)):
        gate = LayerDistiller(24, TrainConfig(gate=kind)).gate
        assert gate.shape == (count,)
        assert (gate == 0).all()
    assert LayerDistiller(24, TrainConfig(branches="adapt")).gate is None


@pytest.mark.parametrize("adapt", ["attention", "bottleneck"])
def test_starts_as_a_convex_mix_of_frozen_tokens(adapt):
    module, meta = LayerDistiller(24, TrainConfig(adapt=adapt)), torch.randn(3, 24) * 0.02
    x = torch.randn(2, 11, 24)
    mixed = module(meta, StoredTokens(x))
    assert (mixed <= x.amax(1, keepdim=True) + 1e-5).all()
    assert (mixed >= x.amin(1, keepdim=True) - 1e-5).all()
    torch.testing.assert_close(module(meta, StoredTokens(x + 3)), mixed + 3, rtol=1e-4, atol=1e-4)  # weights sum to one


@pytest.mark.parametrize(
    ("method", "settings"), [("linear", {}), ("mettle", {}), *(("mettle", one) for one in VARIANTS[2:])], ids=str
)
def test_interface(method, settings):
    config = TrainConfig(**{"meta_tokens": 3, "heads": 2, "rank": 8, "width": 20} | settings)
    module = distill.build(method, SHAPES, config)
    out = module(random_tokens())
    assert set(out) == {"audio", "visual"}
    for one in out.values():
        assert one.vector.shape == (B, T, 20)
        assert one.top.shape == (B, T, 3 if method == "mettle" else 1, 20)
        assert one.vector.dtype == torch.float32
    sum(one.vector.sum() + one.top.sum() for one in out.values()).backward()
    unused = [name for name, p in module.named_parameters() if p.grad is None]
    assert unused == []


SMALL = {"meta_tokens": 3, "heads": 2, "rank": 8, "width": 20}
DEEP = {"visual": {f"layers.{i}.blocks.{j}": (9, 16 << i) for i in range(2) for j in range(3)}}


def mapped(part, tokens):
    """Meta-tokens of every tap at the common width, each by itself."""
    taps = []
    for i, name in enumerate(part.taps):
        x = tokens[name]
        meta = part.distillers[part.places[i]](part.meta[i], StoredTokens(x.flatten(0, 1)))
        taps.append(part.maps[part.places[i]](meta).view(*x.shape[:2], 3, 20))
    return torch.stack(taps)


@pytest.mark.parametrize("share", ["none", "stage"])
def test_mettle_averages_over_taps_and_meta_tokens(share):
    module = distill.build("mettle", SHAPES, TrainConfig(**SMALL, share=share))
    tokens = random_tokens()
    each = mapped(module.parts["audio"], tokens["audio"])
    out = module(tokens)["audio"]
    torch.testing.assert_close(out.vector, each.mean(dim=(0, 3)))
    torch.testing.assert_close(out.top, each[-1])


def test_taps_of_a_stage_share_all_but_their_meta_tokens():
    part = distill.build("mettle", DEEP, TrainConfig(**SMALL, share="stage")).parts["visual"]
    assert (len(part.meta), len(part.distillers), len(part.maps)) == (6, 2, 2)
    assert part.places == [0, 0, 0, 1, 1, 1]
    tokens = {"visual": {tap: torch.randn(B, T, *shape) for tap, shape in DEEP["visual"].items()}}
    part(tokens["visual"], {}).vector.sum().backward()
    assert all(p.grad is not None for p in part.parameters())


def test_stored_statistics_are_used():
    module = shaken(distill.build("mettle", SHAPES, TrainConfig(**SMALL)))
    tokens = random_tokens()
    statistics = {
        m: {tap: torch.from_numpy(token_statistics(x.numpy())) for tap, x in t.items()} for m, t in tokens.items()
    }
    plainly, known = module(tokens)["visual"].vector, module(tokens, statistics)["visual"].vector
    torch.testing.assert_close(known, plainly, rtol=1e-4, atol=1e-5)
    statistics["visual"]["blocks.2"][..., 1] *= 2
    assert (module(tokens, statistics)["visual"].vector - plainly).abs().max() > 1e-3


def test_layer_dropout_leaves_taps_out_in_training_alone():
    module = distill.build("mettle", DEEP, TrainConfig(**SMALL, layer_dropout=0.5))
    tokens = {"visual": {tap: torch.randn(1, 2, *shape) for tap, shape in DEEP["visual"].items()}}
    part = module.parts["visual"]
    each = mapped(part, tokens["visual"]).mean(dim=3)
    torch.testing.assert_close(module.eval()(tokens)["visual"].vector, each.mean(0))
    module.train()
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = [module(tokens)["visual"] for _ in range(150)]
    vectors = torch.stack([one.vector for one in drawn])
    assert len(torch.unique(vectors[:, 0, 0, 0])) > 30  # many sets of taps
    spread = vectors.std(dim=0) / 150**0.5
    assert ((vectors.mean(0) - each.mean(0)).abs() < 4.5 * spread + 1e-6).all()  # the same expectation
    assert all(torch.equal(one.top, drawn[0].top) for one in drawn)


def test_layer_dropout_keeps_at_least_one_tap():
    module = distill.build("mettle", DEEP, TrainConfig(**SMALL, layer_dropout=0.99))
    part = module.parts["visual"].train()
    torch.manual_seed(0)
    drawn = [part._staying() for _ in range(300)]
    assert all(drawn)
    assert {i for one in drawn for i in one} == set(range(6))


def test_without_layer_dropout_no_random_number_is_drawn():
    module = distill.build("mettle", SHAPES, TrainConfig(**SMALL)).train()
    before = torch.get_rng_state()
    module(random_tokens())
    assert torch.equal(torch.get_rng_state(), before)


def test_linear_pools_tokens():
    module = distill.build("linear", SHAPES, TrainConfig(heads=2, rank=8, width=20))
    tokens = random_tokens()
    order = torch.randperm(17)
    shuffled = {**tokens, "visual": {"blocks.2": tokens["visual"]["blocks.2"][:, :, order]}}
    torch.testing.assert_close(module(shuffled)["visual"].vector, module(tokens)["visual"].vector, rtol=1e-3, atol=1e-4)
    expected = module.parts["visual"].maps[0](tokens["visual"]["blocks.2"].float().mean(2))
    torch.testing.assert_close(module(tokens)["visual"].vector, expected)


def test_unknown_method_offers_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'mettle'"):
        distill.build("metle", SHAPES, TrainConfig())
