"""Where LCD looks: the attention weights of its two mechanisms, as the formulas have them."""

import pytest
import torch
from torch.nn import functional

from avpipe.stages import distill
from avpipe.stages.attention import StoredTokens
from avpipe.stages.config import TrainConfig
from avpipe.stages.distill.lcd_layer import LayerDistiller, LowRankAttention

SHAPES = {"audio": {"blocks.0": (9, 16), "blocks.1": (9, 24)}, "visual": {"blocks.2": (17, 32)}}
CONFIG = TrainConfig(meta_tokens=3, heads=2, rank=8, width=20)


@pytest.mark.parametrize(
    "settings",
    [
        {"heads": 2, "rank": 16},
        {"heads": 4, "rank": 8},
        {"heads": 2, "rank": 8, "branches": "keep"},
        {"heads": 2, "rank": 8, "branches": "adapt"},
        {"heads": 2, "rank": 8, "adapt": "bottleneck"},
    ],
    ids=str,
)
def test_weights_of_a_tap_follow_the_formulas(settings):
    torch.manual_seed(1)
    module, meta = LayerDistiller(24, TrainConfig(**settings)), torch.randn(3, 24) * 0.3
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    x = torch.randn(5, 11, 24)
    query = module.query_norm(meta)
    normed = functional.layer_norm(x, (24,), module.token_gain, None, 1e-5)  # the bias on the keys cancels
    expected = {"kept": (query @ normed.transpose(1, 2) / 24**0.5).softmax(-1).mean(1)}  # S N
    if isinstance(module.adapt, LowRankAttention):
        q, k = query @ module.adapt.to_query, normed @ module.adapt.to_key
        parts = torch.arange(settings["rank"]).chunk(settings["heads"])
        adapted = [(q[:, part] @ k[..., part].transpose(1, 2) / len(part) ** 0.5).softmax(-1) for part in parts]
        expected["adapted"] = torch.stack(adapted).mean(dim=(0, 2))
    if settings.get("branches") == "adapt":
        del expected["kept"]
    assert [key for key, _ in module.mechanisms] == list(expected)
    found = module.looks(meta, StoredTokens(x))
    torch.testing.assert_close(found, torch.stack(list(expected.values()), 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, len(expected)))


def test_every_tap_of_every_modality():
    module = distill.build("mettle", SHAPES, CONFIG)
    tokens = {m: {tap: torch.randn(2, 3, n, c).half() for tap, (n, c) in taps.items()} for m, taps in SHAPES.items()}
    found = module.looks(tokens)
    assert {m: list(looks.weights) for m, looks in found.items()} == {m: list(taps) for m, taps in SHAPES.items()}
    assert [key for key, _ in found["audio"].mechanisms] == ["kept", "adapted"]
    part = module.parts["audio"]
    one = part.distillers[1].looks(part.meta[1], StoredTokens(tokens["audio"]["blocks.1"][1]))
    torch.testing.assert_close(found["audio"].weights["blocks.1"][1], one)


def test_a_method_without_attention_looks_nowhere():
    module = distill.build("linear", SHAPES, CONFIG)
    assert module.looks({"audio": {}, "visual": {}}) == {}


def test_gates_are_told_where_a_mechanism_passes_through_one():
    tokens = {"audio": {"blocks.0": torch.randn(1, 2, 9, 16)}}
    for settings, gated in (({}, True), ({"branches": "adapt"}, False), ({"adapt": "bottleneck"}, False)):
        config = TrainConfig(meta_tokens=3, heads=2, rank=8, width=20, **settings)
        found = distill.build("mettle", {"audio": {"blocks.0": (9, 16)}}, config).looks(tokens)["audio"]
        assert (list(found.gates) == ["blocks.0"]) is gated


def test_shared_weights_look_through_each_taps_own_meta_tokens():
    torch.manual_seed(0)
    shapes = {"visual": {"blocks.0": (9, 16), "blocks.1": (9, 16)}}
    x = torch.randn(1, 2, 9, 16)
    module = distill.build("mettle", shapes, TrainConfig(meta_tokens=3, heads=2, rank=8, width=20, share="stage"))
    found = module.looks({"visual": {"blocks.0": x, "blocks.1": x}})["visual"].weights
    assert (found["blocks.0"] - found["blocks.1"]).abs().max() > 1e-3
