"""Presets: what ships is complete and its commands are right; files of the user's own; what comes before what."""

import re
import shlex
import subprocess
import sys

import pytest
import typer
import yaml

from avpipe.cli.main import app
from avpipe.pipeline import progress
from avpipe.pipeline.datasets import manifest_of
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of, select_taps
from avpipe.stages.config import TrainConfig, defaults_for
from avpipe.stages.places import layers_for
from avpipe.stages.presets import load_preset, preset_names
from avpipe.stages.runs import RunConfig
from avpipe.stages.train import TrainOptions, settings, train
from avpipe.stages.train_options import check_early, check_preset, say_preset

ORIGINS = ("published", "protocol", "ours")


def commands(name: str) -> list[list[str]]:
    """The commands on top of a preset, as a shell would split them."""
    lines = load_preset(name).path.read_text().splitlines()
    return [shlex.split(line.removeprefix("#")) for line in lines if line.startswith("#   avpipe ")]


def parsed(command: list[str]) -> dict:
    """What the program makes of a command; it is not run."""
    program, name, *arguments = command
    assert program == "avpipe"
    return typer.main.get_command(app).commands[name].make_context(name, arguments).params


def test_the_presets_that_ship():
    assert {"mettle-ave", "mettle-ave-weak", "mettle-llp"} <= set(preset_names())
    assert {"mettle-s4", "mettle-ms3", "mettle-avss"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_everything_and_where_it_comes_from(name):
    preset = load_preset(name)
    assert preset.title
    task = manifest_of(preset.dataset)["task"]
    config = settings(TrainOptions(preset=preset), task)
    assert config.to_dict() == defaults_for(task).to_dict() | preset.settings
    block = preset.path.read_text().partition("\nsettings:\n")[2].splitlines()
    assert len(block) == len(preset.settings) > 10
    for line in block:
        assert re.search(rf" # ({'|'.join(ORIGINS)})(: .+)?$", line), line


@pytest.mark.parametrize("name", preset_names())
def test_the_commands_on_top_of_a_preset(name):
    extract, *trainings, evaluate = commands(name)
    preset = load_preset(name)
    given = parsed(extract)
    assert extract[1] == "extract"
    assert given["dataset"] == preset.dataset
    facts = {m: facts_of(BackboneChoice(m, given[m], "random:0"), Timeline()) for m in ("visual", "audio")}
    task = manifest_of(preset.dataset)["task"]
    with_masks = task in ("segmentation", "semantic")
    layers = layers_for(given["purpose"], facts, task) if with_masks else dict.fromkeys(facts, given["layers"])
    for modality, one in facts.items():
        assert select_taps(layers[modality], list(one.taps), one.stage_ends)
    asked = [parsed(training) for training in trainings]
    assert [one["stage"] for one in asked] == ([None, "segment"] if with_masks else [None])
    assert [one["start"] for one in asked] == [None, *[str(one["run"]) for one in asked[:-1]]]
    assert {(training[1], one["preset"]) for training, one in zip(trainings, asked, strict=True)} == {("train", name)}
    assert (evaluate[1], parsed(evaluate)["run"]) == ("evaluate", asked[-1]["run"])


def own(tmp_path, text, name="mine.yaml"):
    file = tmp_path / name
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("setting:\n  epochs: 3\n", "unknown key in preset .*did you mean 'settings'"),
        ("title: 3\n", "title is 3, expected a text"),
        ("settings: 3\n", "settings is 3, expected lines"),
        ("- 3\n", "holds list, expected keys: title, dataset, settings"),
        ("settings: [\n", "is no YAML file"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        load_preset(own(tmp_path, text))


def test_names_and_files_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'mettle-ave'"):
        load_preset("mettle-av")
    with pytest.raises(UsageError, match=r"known: mettle-ave, .*or a YAML file"):
        load_preset("x")
    with pytest.raises(UsageError, match="No such file"):
        load_preset(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="unknown preset"):
        load_preset("../presets/mettle-ave")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch: 3", "mine.yaml: unknown setting 'epoch': did you mean 'epochs'"),
        ("epochs: many", "mine.yaml: setting 'epochs' must be a whole number"),
        ("head: han", "unknown head of events data"),
    ],
)
def test_wrong_settings_of_a_preset_are_named_with_its_file(tmp_path, line, message):
    preset = load_preset(own(tmp_path, f"settings:\n  {line}\n"))
    with pytest.raises(UsageError, match=message):
        settings(TrainOptions(preset=preset), "events")


def test_overrides_come_before_options_and_these_before_the_preset(tmp_path):
    preset = load_preset(own(tmp_path, "settings:\n  method: linear\n  modality: audio\n  epochs: 7\n  lr: 1e-3\n"))
    config = settings(TrainOptions(preset=preset, modality="visual", overrides=("epochs=2",)), "events")
    assert config == TrainConfig(method="linear", modality="visual", epochs=2, lr=1e-3)


def test_a_run_keeps_what_its_preset_came_to(tmp_path, toy_events):
    text = "dataset: ave\nsettings:\n  method: linear\n  epochs: 1\n  width: 16\n  rank: 16\n"
    preset = load_preset(own(tmp_path, text, "small.yaml"))
    run = train(TrainOptions(cache=toy_events.cache, run=tmp_path / "run", preset=preset, overrides=("seed=3",)))
    kept = RunConfig.load(run)
    assert (kept.preset, kept.dataset) == ("small", "ave")
    assert (kept.train.method, kept.train.epochs, kept.train.width, kept.train.seed) == ("linear", 1, 16, 3)
    assert yaml.safe_load((run / "config.yaml").read_text())["preset"] == "small"
    train(TrainOptions(run=run, resume=True, preset=preset))
    other = load_preset(own(tmp_path, text.replace("width: 16", "width: 32")))
    with pytest.raises(UsageError, match="was started with width=16"):
        train(TrainOptions(run=run, resume=True, preset=other))
    with pytest.raises(
        UsageError, match=r"mettle-llp is for llp \(parsing data\), ave is events: take --preset mettle-ave or "
    ):
        train(
            TrainOptions(dataset="ave", cache=toy_events.cache, root=toy_events.root, preset=load_preset("mettle-llp"))
        )


def test_presets_and_data_of_their_task():
    preset = load_preset("mettle-ave")
    for dataset, task, fits in (
        ("llp", "parsing", "take --preset mettle-llp"),
        ("avsbench-ms3", "segmentation", "take --preset mettle-ms3 or mettle-s4"),
        ("music-avqa", "qa", "train without --preset"),
    ):
        with pytest.raises(UsageError, match=rf"mettle-ave is for ave \(events data\), {dataset} is {task}: {fits}"):
            check_preset(preset, dataset, task)
    check_preset(preset, "mine.csv", "events")
    with pytest.raises(UsageError, match="llp is parsing: take --preset mettle-llp"):
        check_early(TrainOptions(dataset="llp", preset=preset))  # before there are features


@pytest.fixture
def said(monkeypatch):
    """Lines of information that were said."""
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def test_a_preset_for_other_data_is_said(tmp_path, said):
    preset = load_preset(own(tmp_path, "dataset: ave\nsettings:\n  epochs: 3\n"))
    for dataset in ("ave", "ave-part", "mine.csv"):
        say_preset(preset, dataset)
    assert [line.endswith("(it is for ave, taken for mine.csv)") for line in said] == [False, False, True]


def test_settings_are_checked_before_torch_is_imported():
    """A misspelt setting is an error at once."""
    code = """
import sys
from avpipe.cli.train import train_command
from avpipe.pipeline.errors import UsageError
try:
    train_command(["epoch=3"])
except UsageError as error:
    print(error, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "unknown setting 'epoch': did you mean 'epochs'? False\n"


def test_settings_without_effect_are_said(said):
    settings(TrainOptions(method="linear", overrides=("rank=32", "smoothing=0", "epochs=2")), "events")
    (line,) = said
    owner = "method=mettle with branches=both or adapt, or method=lavish, or injections"
    assert line.startswith(f"without effect here: rank (belongs to {owner}), smoothing")
    assert "epochs" not in line
    settings(TrainOptions(overrides=("rank=32", "epochs=2")), "events")
    assert len(said) == 1


def test_the_command_names_the_presets_and_takes_them(avpipe, tmp_path, toy_events):
    told = " ".join(avpipe("train", "--help").stdout.split()).replace("- ", "-")
    assert all(name in told for name in preset_names())
    assert "did you mean 'mettle-ave'" in avpipe("train", "--preset", "mettle-av", check=2).stderr
