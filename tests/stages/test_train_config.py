import re
from pathlib import Path

import pytest
import yaml
from torch import nn

from avpipe.pipeline.errors import UsageError
from avpipe.stages.config import TrainConfig, defaults_for, from_dict, override
from avpipe.stages.distill.lcd_layer import LowRankAttention
from avpipe.stages.effect import idle, in_effect
from avpipe.stages.model import ModelSpec, build_model


def test_overrides_are_parsed_by_type():
    config = override(TrainConfig(), ["epochs=3", "lr=1e-3", "method=linear", "dropout=0", "seed=7"])
    assert config == TrainConfig(epochs=3, lr=1e-3, method="linear", dropout=0.0, seed=7)
    assert type(config.dropout) is float


def test_round_trip_through_yaml():
    config = defaults_for("segmentation")
    assert from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
    assert defaults_for("events") != config


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("epoch=3", r"unknown setting 'epoch': did you mean 'epochs'\?"),
        ("epochs=3.5", "'epochs' must be a whole number, not '3.5'"),
        ("lr=fast", "'lr' must be a number, not 'fast'"),
        ("lr=nan", "lr=nan must be above 0"),
        ("lr=inf", "lr=inf must be above 0"),
        ("epochs=0", "epochs=0 must be at least 1"),
        ("epochs", "this is not: 'epochs'"),
        ("=3", "this is not: '=3'"),
        ("dropout=1", "dropout=1.0 must be at least 0 and below 1"),
        ("seed=-1", "seed=-1 must be 0 or more"),
        ("rank=62", "rank=62 must be a multiple of heads=4"),
        ("modality=vidual", r"unknown modality 'vidual': did you mean 'visual'\?"),
        ("stage=distil", r"unknown stage 'distil': did you mean 'distill'\?"),
    ],
)
def test_refuses(pair, message):
    with pytest.raises(UsageError, match=message):
        override(TrainConfig(), [pair])


def test_refuses_a_setting_given_twice():
    with pytest.raises(UsageError, match="'epochs' is given twice"):
        override(TrainConfig(), ["epochs=1", "epochs=2"])


def test_values_from_a_file_must_have_the_right_type():
    for bad in ({"epochs": True}, {"epochs": 2.0}, {"lr": None}, {"method": 3}):
        with pytest.raises(UsageError, match="must be"):
            from_dict(bad)
    assert from_dict({"lr": 1}).lr == 1.0


def test_the_table_of_settings_is_complete():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
    events, masks = defaults_for("events").to_dict(), defaults_for("segmentation").to_dict()
    described = {key: (first.strip(), second.strip()) for key, first, second in rows if key in events}
    assert described == {
        key: (str(events[key]), str(masks[key])) for key in events.keys() - {"method", "modality", "stage"}
    }


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("taps=last:0", "taps=last:0: last:K needs a positive number"),
        ("taps=first:2", "taps=first:2: last:K needs a positive number"),
        ("taps=", "taps is empty: all, stages, last:K"),
        ("layers=last:4", "counts transformer layers; which taps to train on is taps=last:4"),
        ("layers=stages", "taps=stages"),
    ],
)
def test_taps_and_layers_are_told_apart(pair, message):
    with pytest.raises(UsageError, match=message):
        override(TrainConfig(), [pair])


@pytest.mark.parametrize(
    ("task", "pairs", "without"),
    [
        ("events", (), {"crossed", "smoothing", "dice", "block_units"}),
        (
            "events",
            ("method=linear", "head=linear", "supervision=weak", "shuffle=block"),
            {
                *("meta_tokens", "heads", "rank", "branches", "adapt", "gate", "share", "layer_dropout"),
                *("smoothing", "layers", "dropout", "dice"),
            },
        ),
        ("events", ("supervision=weak", "modality=audio"), {"crossed", "smoothing", "dice", "block_units"}),
        ("events", ("branches=keep",), {"rank", "adapt", "gate", "crossed", "smoothing", "dice", "block_units"}),
        ("parsing", ("head=han",), {"supervision", "crossed", "layers", "dice", "block_units"}),
        (
            "segmentation",
            ("head=mask",),
            {"supervision", "crossed", "smoothing", "layers", "block_units", "share", "layer_dropout"},
        ),
    ],
)
def test_settings_without_effect(task, pairs, without):
    config = override(TrainConfig(), pairs)
    without = without | {"inject", "inject_at", "checkpointing"}  # of --stage segment alone
    assert set(idle(config, task)) == without
    assert set(in_effect(config, task)) == set(config.to_dict()) - without


SHAPES = {m: {"blocks.0": (17, 16), "blocks.1": (17, 16)} for m in ("audio", "visual")}
OTHERS = {
    **{"meta_tokens": "2", "heads": "2", "rank": "32", "branches": "keep", "adapt": "bottleneck"},
    **{"gate": "scalar", "share": "stage", "layers": "2"},
}


@pytest.mark.parametrize(
    ("task", "pairs"),
    [
        ("events", ()),
        ("events", ("method=linear",)),
        ("events", ("head=linear",)),
        ("events", ("head=linear", "branches=keep")),
        ("parsing", ("head=han", "method=linear")),
    ],
)
def test_what_is_said_to_have_no_effect_has_none_on_the_model(task, pairs):
    """Other values of such settings give a model with the same parameters; those in effect give another one."""
    base = override(TrainConfig(width=16, rank=16), pairs)
    spec = ModelSpec(task, 4, SHAPES)

    def parameters(config):
        built = build_model(spec, config)
        hidden = [(m.num_heads,) for m in built.modules() if isinstance(m, nn.MultiheadAttention)]
        hidden += [(m.heads,) for m in built.modules() if isinstance(m, LowRankAttention)]
        return [(name, tuple(value.shape)) for name, value in built.named_parameters()], hidden

    without = idle(base, task)
    for key, other in OTHERS.items():
        same = parameters(override(base, [f"{key}={other}"])) == parameters(base)
        assert same == (key in without or str(getattr(base, key)) == other), key
