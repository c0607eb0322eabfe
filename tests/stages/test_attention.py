"""The regrouped forms of attention against plain attention with LayerNorm, keys and values written out."""

import pytest
import torch
from torch.nn import functional

from avpipe.stages import attention

S, N, C, R = 3, 17, 24, 16


def naive(q, x, w_k, w_v, gain, bias, heads):
    """Attention as it is usually written: LN(x) materialised, keys and values projected, one head at a time."""
    normed = functional.layer_norm(x, (x.shape[-1],), gain, bias, attention.NORM_EPS)
    key, value = normed @ w_k, normed @ w_v
    outs = []
    for h in range(heads):
        part = slice(h * R // heads, (h + 1) * R // heads)
        scores = q[:, part] @ key[..., part].transpose(1, 2) / (R // heads) ** 0.5
        outs.append(scores.softmax(-1) @ value[..., part])
    return torch.cat(outs, -1)


def folded(q, x, w_k, w_v, gain, bias, heads, form):
    out = attention.meta_attention(q, x, gain[:, None] * w_k, gain[:, None] * w_v, heads=heads, form=form)
    return out + bias @ w_v


def parameters(k, dtype):
    make = torch.Generator().manual_seed(k)

    def draw(*shape):
        return torch.randn(*shape, generator=make, dtype=dtype)

    return [draw(k, R), draw(C, R) / C**0.5, draw(C, R) / C**0.5, 1 + 0.3 * draw(C), 0.3 * draw(C)]


def tokens(dtype):
    x = torch.randn(S, N, C, generator=torch.Generator().manual_seed(9), dtype=dtype)
    x[..., 3] *= 100  # an outlier channel, as frozen transformers have
    return x + 2


@pytest.mark.parametrize("form", ["absorbed", "projected", "auto"])
@pytest.mark.parametrize(("k", "heads"), [(1, 1), (4, 2), (4, 8), (3, 4)])
def test_equals_naive_in_output_and_every_gradient(form, k, heads):
    results = []
    for run in (naive, lambda *a: folded(*a, form)):
        q, *weights = (p.requires_grad_() for p in parameters(k, torch.float32))
        w_k, w_v, gain, bias = weights
        out = run(q, tokens(torch.float32), w_k, w_v, gain, bias, heads)
        pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        out.backward(pull)
        results.append([out.detach(), *(p.grad for p in (q, *weights))])
    for reference, ours in zip(*results, strict=True):
        scale = reference.abs().max().clamp_min(1.0)
        assert (reference - ours).abs().max() / scale < 1e-5


@pytest.mark.parametrize("form", ["absorbed", "projected"])
def test_equals_naive_in_double_precision(form):
    q, w_k, w_v, gain, bias = parameters(4, torch.float64)
    x = tokens(torch.float64)
    torch.testing.assert_close(
        folded(q, x, w_k, w_v, gain, bias, 4, form), naive(q, x, w_k, w_v, gain, bias, 4), rtol=1e-10, atol=1e-10
    )


def test_auto_takes_the_form_that_costs_less(monkeypatch):
    called = []
    monkeypatch.setattr(attention, "_projected", lambda q, x, *rest: called.append("projected"))
    q, w_k, w_v, *_ = parameters(4, torch.float32)
    attention.meta_attention(q, tokens(torch.float32), w_k, w_v, heads=2)
    assert called == []  # 4 * 2 < 16
    attention.meta_attention(q, tokens(torch.float32), w_k, w_v, heads=4)
    assert called == ["projected"]


@pytest.mark.parametrize(("form", "kept"), [("absorbed", False), ("projected", True)])
def test_absorbed_keeps_no_projected_tokens_for_the_backward_pass(form, kept):
    q, w_k, w_v, *_ = (p.requires_grad_() for p in parameters(1, torch.float32))
    x = tokens(torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        attention.meta_attention(q, x, w_k, w_v, heads=2, form=form)
    largest = max(t.numel() for t in saved if t.data_ptr() != x.data_ptr())
    assert (largest >= S * N * R) is kept
