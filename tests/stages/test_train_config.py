import re
from pathlib import Path

import pytest
import yaml

from avpipe.pipeline.errors import UsageError
from avpipe.stages.config import TrainConfig, defaults_for, from_dict, override


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
