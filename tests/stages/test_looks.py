"""Where LCD looks: the attention weights of its two mechanisms, as the formulas have them."""

import pytest
import torch
from torch.nn import functional

from avpipe.stages import distill
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill.lcd import TapDistiller

SHAPES = {"audio": {"blocks.0": (9, 16), "blocks.1": (9, 24)}, "visual": {"blocks.2": (17, 32)}}
CONFIG = TrainConfig(meta_tokens=3, heads=2, rank=8, width=20)


@pytest.mark.parametrize(("heads", "rank"), [(2, 16), (4, 8)])  # forward folds the first, projects the second
def test_weights_of_a_tap_follow_the_formulas(heads, rank):
    torch.manual_seed(1)
    module = TapDistiller(24, 3, heads, rank)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    x = torch.randn(5, 11, 24)
    query = module.query_norm(module.meta)
    normed = functional.layer_norm(x, (24,), module.token_gain, module.token_bias, 1e-5)
    kept = (query @ normed.transpose(1, 2) / 24**0.5).softmax(-1)  # S K N
    q, k = query @ module.to_query, normed @ module.to_key
    parts = torch.arange(rank).chunk(heads)
    adapted = [(q[:, part] @ k[..., part].transpose(1, 2) / len(part) ** 0.5).softmax(-1) for part in parts]
    expected = torch.stack([kept.mean(1), torch.stack(adapted).mean(dim=(0, 2))], dim=1)
    found = module.looks(x)
    assert found.shape == (5, 2, 11)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, 2))


def test_every_tap_of_every_modality():
    module = distill.build("mettle", SHAPES, CONFIG)
    tokens = {m: {tap: torch.randn(2, 3, n, c).half() for tap, (n, c) in taps.items()} for m, taps in SHAPES.items()}
    found = module.looks(tokens)
    assert {m: list(looks.weights) for m, looks in found.items()} == {m: list(taps) for m, taps in SHAPES.items()}
    assert [key for key, _ in found["audio"].mechanisms] == ["kept", "adapted"]
    part = module.parts["audio"].distillers[1]
    one = part.looks(tokens["audio"]["blocks.1"][1].float())
    torch.testing.assert_close(found["audio"].weights["blocks.1"][1], one)


def test_a_method_without_attention_looks_nowhere():
    module = distill.build("linear", SHAPES, CONFIG)
    assert module.looks({"audio": {}, "visual": {}}) == {}
