"""Distillers: LCD against its formulas written out, the control, and what heads may rely on."""

import pytest
import torch
from torch.nn import functional

from avpipe.pipeline.errors import UsageError
from avpipe.stages import distill
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill.lcd import TapDistiller

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


def written_out(module, x):
    """m = P + gate * T with LN(X), keys and values as they stand in the formulas."""
    c, heads = x.shape[-1], module.heads
    query = module.query_norm(module.meta)
    normed = functional.layer_norm(x, (c,), module.token_gain, module.token_bias, 1e-5)
    kept = (query @ normed.transpose(1, 2) / c**0.5).softmax(-1) @ x
    q, k, v = query @ module.to_query, normed @ module.to_key, normed @ module.to_value
    adapted = []
    for part in torch.arange(q.shape[-1]).chunk(heads):
        weights = (q[:, part] @ k[..., part].transpose(1, 2) / len(part) ** 0.5).softmax(-1)
        adapted.append(weights @ v[..., part])
    return kept + module.gate * (torch.cat(adapted, -1) @ module.back)


@pytest.mark.parametrize(("heads", "rank"), [(2, 16), (4, 8)])  # 3 * 2 < 16: absorbed; 3 * 4 > 8: projected
def test_tap_distiller_follows_the_formulas_in_output_and_gradient(heads, rank):
    torch.manual_seed(1)
    module = shaken(TapDistiller(24, 3, heads, rank))
    x = torch.randn(5, 11, 24)
    x[..., 7] *= 100
    pull = torch.randn(5, 3, 24)
    results = []
    for run in (written_out, lambda m, tokens: m(tokens)):
        module.zero_grad()
        out = run(module, x)
        out.backward(pull)
        results.append([out.detach(), *(p.grad.clone() for p in module.parameters())])
    for reference, ours in zip(*results, strict=True):
        assert (reference - ours).abs().max() / reference.abs().max().clamp_min(1) < 1e-5


def test_starts_as_a_convex_mix_of_frozen_tokens():
    module = TapDistiller(24, 3, 2, 16)
    x = torch.randn(2, 11, 24)
    meta = module(x)
    assert (meta <= x.amax(1, keepdim=True) + 1e-5).all()
    assert (meta >= x.amin(1, keepdim=True) - 1e-5).all()
    torch.testing.assert_close(module(x + 3), meta + 3, rtol=1e-4, atol=1e-4)  # weights sum to one


@pytest.mark.parametrize("method", ["mettle", "linear"])
def test_interface(method):
    config = TrainConfig(meta_tokens=3, heads=2, rank=8, width=20)
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


def test_mettle_averages_over_taps_and_meta_tokens():
    module = distill.build("mettle", SHAPES, TrainConfig(meta_tokens=3, heads=2, rank=8, width=20))
    tokens = random_tokens()
    part = module.parts["audio"]
    per_tap = [
        to_common(tap(tokens["audio"][name].flatten(0, 1).float())).view(B, T, 3, 20)
        for name, tap, to_common in zip(part.taps, part.distillers, part.maps, strict=True)
    ]
    out = module(tokens)["audio"]
    torch.testing.assert_close(out.vector, (per_tap[0].mean(2) + per_tap[1].mean(2)) / 2)
    torch.testing.assert_close(out.top, per_tap[1])


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
