"""Meta-tokens into tokens: the formula written out, the start, and what is kept for the backward pass."""

import pytest
import torch
from torch.nn import functional

from avpipe.stages.config import TrainConfig
from avpipe.stages.inject import Injection

S, N, C, K, WIDTH = 3, 11, 24, 2, 16
CONFIG = TrainConfig(width=WIDTH, rank=8, heads=2)


def opened(modalities=("audio", "visual"), config=CONFIG):
    """An injection with every parameter drawn."""
    torch.manual_seed(1)
    injection = Injection(C, modalities, config)
    for parameter in injection.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return injection


def drawn(counts=(K, K)):
    """Tokens, and meta-tokens of both modalities."""
    torch.manual_seed(2)
    meta = {m: torch.randn(S, k, WIDTH) for m, k in zip(("audio", "visual"), counts, strict=True)}
    return torch.randn(S, N, C) * 3 + 1, meta


@pytest.mark.parametrize("counts", [(K, K), (1, 5)])
def test_it_is_the_formula(counts):
    injection, (x, meta) = opened(), drawn(counts)
    expected = torch.empty_like(x)
    for s in range(S):
        rows = [meta[m][s] + injection.kind[i] for i, m in enumerate(("audio", "visual"))]
        norm = injection.guide_norm
        guides = functional.layer_norm(torch.cat(rows), (WIDTH,), norm.weight, norm.bias)
        mean, deviation = x[s].mean(1, keepdim=True), (x[s].var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        query = (x[s] - mean) / deviation @ injection.to_query.weight.T + injection.to_query.bias
        key, value = guides @ injection.to_key.weight.T, guides @ injection.to_value.weight.T
        heads = [
            (query[:, part] @ key[:, part].T / 2.0).softmax(-1) @ value[:, part] for part in (slice(0, 4), slice(4, 8))
        ]
        expected[s] = x[s] + 10 * injection.gate * (torch.cat(heads, dim=1) @ injection.back)
    torch.testing.assert_close(injection(x, meta), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("gate", "shape"), [("channel", (C,)), ("scalar", (1,))])
def test_it_starts_as_nothing_and_opens(gate, shape):
    injection = Injection(C, ("audio", "visual"), TrainConfig(width=WIDTH, rank=8, heads=2, gate=gate))
    x, meta = drawn()
    found = injection(x.half(), meta)
    assert torch.equal(found, x.half().float())
    found.square().sum().backward()
    assert injection.gate.grad.shape == shape
    assert (injection.gate.grad.abs() > 0).all()


def test_it_knows_the_modalities_apart():
    injection, (x, meta) = opened(), drawn()
    exchanged = injection(x, {"audio": meta["visual"], "visual": meta["audio"]})
    assert (injection(x, meta) - exchanged).norm() > 1e-2 * x.norm()
    with torch.no_grad():
        injection.kind.zero_()
    same = injection(x, {"audio": meta["visual"], "visual": meta["audio"]})
    torch.testing.assert_close(injection(x, meta), same, rtol=1e-5, atol=1e-4)


def test_gradients_are_those_of_differences():
    injection, (x, meta) = opened().double(), drawn()
    inputs = [t.double().requires_grad_() for t in (x[:1, :3], *(m[:1] for m in meta.values()))]
    names, parameters = zip(*injection.named_parameters(), strict=True)

    def run(tokens, audio, visual, *weights):
        found = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(injection, found, (tokens, {"audio": audio, "visual": visual}))

    assert torch.autograd.gradcheck(run, (*inputs, *parameters))


@pytest.mark.parametrize(("learned", "most"), [(False, 1), (True, 2)])
def test_little_is_kept_for_the_backward_pass(learned, most):
    """Of tensors as large as the tokens: their normalisation, and themselves where they need a gradient."""
    injection, (x, meta) = opened(), drawn()
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        injection(x.requires_grad_(learned), meta)
    assert sum(size == S * N * C for size in kept.values()) == most
    assert max(kept.values()) == S * N * C
