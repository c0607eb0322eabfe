"""What is said where a cache or a weights file lacks what training needs, before a run folder is made."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from avpipe.pipeline import open_cache, progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.stages import runs
from avpipe.stages.backbones.reopen import open_trunk
from avpipe.stages.extract import extract
from avpipe.stages.job import Wish, choose_backbones, resolve
from avpipe.stages.lacking import Lacking
from avpipe.stages.model import Reading
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_loop import Trainer

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=1")
READ = Reading({"visual": ("blocks.4", "blocks.5")})


@pytest.fixture(scope="module")
def half(new_ave, tmp_path_factory):
    """A cache in which the last two of four clips lack a layer, and the clips; do not change it."""
    base = tmp_path_factory.mktemp("half")
    ave = new_ave(base / "ave")
    for layers in ("last:2", "last:1"):
        ave.add(2)
        dataset = load_dataset("ave", base / "ave")
        choices = choose_backbones(dataset, {"visual": Wish("test_vit", "random:0", 32)})
        common = {"dtype": "float16", "decoder": "decord", "device": "cpu", "batch": None, "deadline_seconds": 60.0}
        assert extract(dataset, resolve(dataset, choices, cache=base / "cache", layers=layers, **common)).left == 0
    cache = open_cache(base / "cache")
    clips = list(cache.clips(["visual/blocks.5"]))
    return cache, clips[:2], clips[2:], base / "ave"


def test_layers_that_clips_lack_are_named_with_the_command(half):
    cache, _, poor, root = half
    said = str(Lacking(cache, READ, poor, "ave", root).error())
    assert "no training clip of ave has all that is read" in said
    assert "visual/blocks.4 (0 of 2). Add it" in said
    assert said.endswith("taps=visual/blocks.5")
    command = shlex.split(said.split("`")[1])
    assert command[:4] == ["avpipe", "extract", "--dataset", "ave"]
    given = dict(zip(command[2::2], command[3::2], strict=True))
    assert given == {
        **{"--dataset": "ave", "--root": str(root), "--cache": str(cache.path), "--modality": "visual"},
        **{"--visual": "test_vit", "--visual-weights": "random:0", "--image-size": "32", "--layers": "blocks.4"},
    }


def test_clips_that_are_not_there_at_all_and_some_that_are(half):
    cache, whole, poor, root = half
    none = Lacking(cache, READ, ["other"], "ave", root).error()
    assert "has no features of the training samples of ave: run `avpipe extract" in str(none)
    assert "--layers blocks.4,blocks.5" in str(none)
    some = Lacking(cache, READ, [*whole, *poor], "ave", root)
    assert some.arrays == {"visual/blocks.4": 2}
    assert "--layers blocks.4`" in some.commands_that_help()
    assert Lacking(cache, READ, whole, "ave", root).commands_that_help() == ""
    frames = Lacking(cache, Reading({}, ("visual",)), ["other"], "ave", root)
    assert "--layers blocks.5`" in frames.commands()  # frames come with any layer


def test_a_weights_file_that_is_gone_is_to_be_put_back(half, tmp_path):
    spec = half[0].specs["visual"]
    gone = replace(spec, request={**spec.request, "weights": str(tmp_path / "gone.safetensors")})
    with pytest.raises(EnvironmentLacking, match=r"gone\.safetensors of test_vit, which is gone: put that file") as one:
        open_trunk(gone, device="cpu")
    assert spec.fields["weights"]["sha256"] in str(one.value)
    assert "--visual-weights" not in str(one.value)


def test_absent_clips_are_said_before_layers_are_asked_for(make_toy, tmp_path, monkeypatch):
    """The command for single layers would leave out the sound, which these clips lack too."""
    toy = make_toy["events"](tmp_path / "toy", lacking=tuple(range(24)))
    monkeypatch.setattr("avpipe.stages.train.model_spec", lambda *_, **__: pytest.fail("layers were asked for"))
    with pytest.raises(UsageError, match="no features of the training samples of ave") as one:
        train(TrainOptions(cache=toy.cache, run=tmp_path / "run", overrides=SMALL))
    assert "--modality" not in str(one.value)
    assert not (tmp_path / "run").exists()


def test_backbones_are_opened_before_a_run_is_made(toy_masks, tmp_path, monkeypatch):
    def gone(*_):
        raise EnvironmentLacking("gone")

    monkeypatch.setattr("avpipe.stages.train.open_trunks", gone)
    monkeypatch.setattr("avpipe.stages.train.FeatureStore", lambda *_, **__: pytest.fail("features were loaded"))
    with pytest.raises(EnvironmentLacking):
        train(TrainOptions(cache=toy_masks.cache, run=tmp_path / "run", overrides=SMALL))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_what_resuming_does_after_ctrl_c(toy_masks, tmp_path, monkeypatch, checkpointed):
    def stopped(trainer, *, resume):
        if checkpointed:
            (trainer.run / runs.LAST).touch()
        raise KeyboardInterrupt

    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(Trainer, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(TrainOptions(cache=toy_masks.cache, run=tmp_path / "run", overrides=SMALL))
    where = (
        "go on after the last checkpoint with" if checkpointed else "there is no checkpoint yet, so this starts over:"
    )
    assert said[-1] == f"interrupted: {where} avpipe train --run {tmp_path / 'run'} --resume"


def test_a_block_by_number_is_not_guessed(half):
    from avpipe.stages.backbones.reopen import facts_of_cache
    from avpipe.stages.places import find_places

    with pytest.raises(UsageError, match=r"unknown block in inject_at 'blocks\.9': .* blocks\.0 to blocks\.5$"):
        find_places(facts_of_cache(half[0].specs["visual"]), "blocks.9")
