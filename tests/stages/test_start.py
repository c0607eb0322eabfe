"""Stage segment starts from a distill run: which one, with what, and the same after a stop."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from avpipe.pipeline import progress
from avpipe.pipeline.errors import CorruptionFound, UsageError
from avpipe.stages import checkpoint, runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.model import build_model
from avpipe.stages.report import make_report
from avpipe.stages.report.scores import _group, tables
from avpipe.stages.report.sources import open_sources
from avpipe.stages.runs import RunConfig
from avpipe.stages.seen import SPLITS, other_split, read_samples, seen_before
from avpipe.stages.start import _newest, find_start, load_start
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import find_inputs
from avpipe.stages.train_loop import Trainer

TINY = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "taps=all")
SMALL, AT_SIDE = (*TINY, "epochs=1"), ("inject=side", "inject_at=blocks.10")
SIDE = (*SMALL, *AT_SIDE)


@pytest.fixture(scope="module")
def distilled(toy_masks, tmp_path_factory):
    """A distill run; do not change it."""
    return train(TrainOptions(cache=toy_masks.cache, run=tmp_path_factory.mktemp("distill") / "d", overrides=SMALL))


@pytest.fixture
def beside(distilled, tmp_path):
    """Its copy in a folder of the test's own."""
    shutil.copytree(distilled, tmp_path / "d")
    return tmp_path / "d"


@pytest.fixture
def said(monkeypatch):
    """Lines about the start."""
    lines = []
    monkeypatch.setattr(progress, "say", lambda line: lines.append(line) if line.startswith("start:") else None)
    return lines


def segment(toy, run, overrides=SIDE, **others):
    return TrainOptions(cache=toy.cache, run=run, stage="segment", overrides=overrides, **others)


def edit(run, old, new, name=runs.CONFIG):
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))


def test_starts_from_the_newest_finished_run_that_fits(toy_masks, beside, tmp_path, said):
    for number, name in enumerate(("older", "unfinished", "narrow", "elsewhere"), start=1):
        shutil.copytree(beside, tmp_path / name)
        os.utime(tmp_path / name / runs.BEST, ns=(1, 1) if name == "older" else (2**62 + number, 2**62 + number))
    (tmp_path / "unfinished" / runs.EPOCHS).write_text("")
    edit(tmp_path / "narrow", "rank: 16", "rank: 8")
    edit(tmp_path / "elsewhere", f"cache: {toy_masks.cache}", "cache: /other")  # may have trained on our test clips
    (tmp_path / "notes").mkdir()
    run = train(segment(toy_masks, tmp_path / "run"))
    assert said == [f"start: distiller and decoder as {beside} left them"]
    config = RunConfig.load(run)
    assert config.start["run"] == str(beside)
    assert (run / runs.START).read_bytes() == (beside / runs.BEST).read_bytes()
    (run / runs.LAST).unlink()
    torch.manual_seed(0)
    model = build_model(config.model, config.train)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    load_start(model, run, config)
    kept = checkpoint.read_weights(beside / runs.BEST)
    for name, value in model.state_dict().items():
        assert value.equal(kept[name] if name in kept else fresh[name])
    assert {name.partition(".")[0] for name in fresh.keys() - kept.keys()} == {"injections"}


def test_without_a_run_that_fits(toy_masks, beside, tmp_path, said):
    edit(beside, "rank: 16", "rank: 8")
    run = train(segment(toy_masks, tmp_path / "run"))
    assert f"{beside} does not fit: it has rank=8, not 16" in said[0]
    assert RunConfig.load(run).start == {}
    assert not (run / runs.START).exists()
    shutil.rmtree(beside)
    train(segment(toy_masks, tmp_path / "again"))
    assert "has no finished distill run of avsbench-ms3 on this cache" in said[1]


def test_none_and_a_named_run(toy_masks, beside, tmp_path, said):
    first = train(segment(toy_masks, tmp_path / "r" / "first", start="none"))
    second = train(segment(toy_masks, tmp_path / "r" / "second", start=str(beside)))  # not among the runs beside it
    assert said == ["start: fresh weights, as asked for", f"start: distiller and decoder as {beside} left them"]
    assert RunConfig.load(first).start == {}
    assert RunConfig.load(second).start["run"] == str(beside)
    losses = [(run / runs.STEPS).read_text().splitlines()[0] for run in (first, second)]
    assert losses[0] != losses[1]
    assert len({_group(RunConfig.load(run), run) for run in (first, second)}) == 2  # no seeds of one another


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        (runs.CONFIG, "stage: distill", "stage: segment", "it is a run of stage segment"),
        (runs.CONFIG, "dataset: avsbench-ms3", "dataset: avsbench-s4", "it is on avsbench-s4, not on avsbench-ms3"),
        (runs.CONFIG, "modality: both", "modality: visual", "it has modality=visual, not both"),
        (runs.CONFIG, "method: mettle", "method: linear", "it has method=linear, not mettle"),
        (runs.CONFIG, "select: val", "select: test", r"its epoch was chosen on test \(select=test\)"),
        (
            runs.CONFIG,
            "blocks.9:",
            "blocks.8:",
            "trained on visual layers blocks.8, blocks.10, this one is on blocks.9,",
        ),
        (runs.CONFIG, "- 32", "- 64", "other classes, or masks of another size"),
        (runs.ENVIRONMENT, '"fingerprints": {', '"fingerprints": {}, "was": {', "features came from another backbone"),
    ],
)
def test_a_named_run_that_does_not_fit(toy_masks, beside, tmp_path, name, old, new, why):
    edit(beside, old, new, name)
    with pytest.raises(UsageError, match=rf"--start .*{why}.*; name another run, or --start none"):
        train(segment(toy_masks, tmp_path / "run", start=str(beside)))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def dataset(toy_masks):
    return find_inputs(None, toy_masks.root, toy_masks.cache).dataset


def exchanged(run, one, other):
    """The run as it would be had two of its splits been exchanged in the dataset when it was trained."""
    known = json.loads((run / runs.SAMPLES).read_text())
    known[one], known[other] = known[other], known[one]
    (run / runs.SAMPLES).write_text(json.dumps(known))


def test_a_run_notes_its_samples(beside, dataset):
    known = read_samples(beside)
    assert {split: len(ids) for split, ids in known.items()} == {"train": 24, "val": 8, "test": 8}
    assert known == {split: {sample.id for sample in dataset.split(split)} for split in SPLITS}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("train", "test", "it was trained on 8 samples that are in test now"),
        ("train", "val", "it was trained on 8 samples that are in val now"),
        ("val", "test", "its epoch was chosen on 8 samples that are in test now"),
    ],
)
def test_what_is_held_out_had_no_part_in_the_start(toy_masks, beside, tmp_path, said, one, other, why):
    """Neither where the run is found, nor where it is named."""
    exchanged(beside, one, other)
    run = train(segment(toy_masks, tmp_path / "run"))
    assert f"{beside} does not fit: {why}" in said[0]
    assert RunConfig.load(run).start == {}
    with pytest.raises(UsageError, match=f"--start {beside}: {why}"):
        train(segment(toy_masks, tmp_path / "named", start=str(beside)))


def test_other_samples_and_none_noted(toy_masks, beside, tmp_path, said):
    """Taken where it is named, as nothing that is held out had a part."""
    known = json.loads((beside / runs.SAMPLES).read_text())
    (beside / runs.SAMPLES).write_text(json.dumps(known | {"train": [*known["train"][1:], "x", "y"]}))
    train(segment(toy_masks, tmp_path / "one"))
    assert "its train split was another one (2 samples that are not in it now, 1 lacking)" in said[-1]
    train(segment(toy_masks, tmp_path / "two", start=str(beside)))
    assert said[-1] == f"start: distiller and decoder as {beside} left them"
    (beside / runs.SAMPLES).unlink()
    train(segment(toy_masks, tmp_path / "three"))
    assert "it has no samples.json, so nothing says which samples it was trained on" in said[-1]
    train(segment(toy_masks, tmp_path / "four", start=str(beside)))
    assert said[-1].endswith("(made by an earlier version, which did not note the samples that it trained on)")
    (beside / runs.SAMPLES).write_text("{}")
    with pytest.raises(UsageError, match=r"samples.json cannot be read \('train'\)"):
        train(segment(toy_masks, tmp_path / "five", start=str(beside)))


def test_chosen_on_test_and_marked_so():
    """With select=test on both sides scores say so, and nothing is hidden."""
    same = {split: frozenset({split}) for split in SPLITS}
    assert (seen_before(same, "test", same, "test"), other_split(same, same)) == ("", "")
    assert seen_before(same, "test", same, "val") == "its epoch was chosen on 1 samples that are in test now"


def test_a_run_of_the_same_seed_comes_first(toy_masks, beside, tmp_path, said):
    shutil.copytree(beside, tmp_path / "newer")
    edit(tmp_path / "newer", "seed: 0", "seed: 7")
    os.utime(tmp_path / "newer" / runs.BEST, ns=(2**62, 2**62))
    train(segment(toy_masks, tmp_path / "run"))
    assert said[0] == f"start: distiller and decoder as {beside} left them"
    shutil.rmtree(beside)
    train(segment(toy_masks, tmp_path / "other"))
    assert said[1] == (f"start: distiller and decoder as {tmp_path / 'newer'} left them (its seed is 7, this run's 0)")


def test_seeds_from_one_start_are_no_independent_ones(toy_masks, beside, tmp_path):
    two = [train(segment(toy_masks, tmp_path / f"s{seed}", (*SIDE, f"seed={seed}"))) for seed in (0, 1)]
    alone = train(segment(toy_masks, tmp_path / "alone", (*SIDE, "seed=2"), start="none"))
    for run in (*two, alone):
        evaluate(run, device="cpu")
    _, notes = tables(open_sources(two[0], "test", None, None, "cpu"), None)
    shared = [note for note in notes if "start from the weights of one distill run" in note]
    assert len(shared) == 1
    assert shared[0].startswith("s0 and s1 start")


def flip(path):
    content = bytearray(path.read_bytes())
    content[9] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "why", "error"),
    [
        (lambda run: flip(run / runs.BEST), "is not a sound checkpoint of avpipe", CorruptionFound),
        (lambda run: (run / runs.BEST).write_bytes(b""), "is not a sound checkpoint of avpipe", CorruptionFound),
        (lambda run: (run / runs.ENVIRONMENT).unlink(), "environment.json cannot be read", UsageError),
        (lambda run: (run / runs.ENVIRONMENT).write_bytes(b"\xff"), "environment.json cannot be read", UsageError),
        (lambda run: (run / runs.ENVIRONMENT).write_text("[]"), "environment.json cannot be read", UsageError),
        (lambda run: (run / runs.CONFIG).write_bytes(b"\xff"), "config.yaml cannot be read", UsageError),
        (lambda run: edit(run, "grids:", "grid:"), "with another mask decoder: train again", UsageError),
    ],
)
def test_a_damaged_neighbour_is_passed_by(toy_masks, beside, tmp_path, damage, why, error):
    """It is the reason where no other fits, and an error where it was named."""
    inputs = find_inputs(None, toy_masks.root, toy_masks.cache)
    config = replace(RunConfig.load(beside), train=replace(RunConfig.load(beside).train, stage="segment"))
    shutil.copytree(beside, tmp_path / "damaged")
    os.utime(beside / runs.BEST, ns=(1, 1))
    damage(tmp_path / "damaged")
    assert _newest(tmp_path, config, inputs.dataset, inputs.cache) == (beside, "")
    shutil.rmtree(beside)
    found, reason = _newest(tmp_path, config, inputs.dataset, inputs.cache)
    assert found is None
    assert why in reason
    with pytest.raises(error, match=why):
        find_start(str(tmp_path / "damaged"), tmp_path, config, inputs.dataset, inputs.cache)


def test_a_named_run_that_is_none_or_unfinished(toy_masks, beside, tmp_path, said):
    with pytest.raises(
        UsageError, match=r"--start nothing: nothing is no run folder: .*; name another run, or --start"
    ):
        train(segment(toy_masks, tmp_path / "run", start="nothing"))
    edit(beside, "epochs: 1\n", "epochs: 3\n")
    train(segment(toy_masks, tmp_path / "run", start=str(beside)))
    assert said == [f"start: distiller and decoder as {beside} left them (unfinished: 1 of 3 epochs)"]


def test_a_checkpoint_needs_no_start_any_more(toy_masks, beside, tmp_path):
    run = train(segment(toy_masks, tmp_path / "run"))
    weights = (run / runs.BEST).read_bytes()
    (run / runs.START).unlink()
    (run / runs.BEST).unlink()
    train(TrainOptions(run=run, resume=True))
    assert (run / runs.BEST).read_bytes() == weights


def test_masks_of_an_earlier_version(toy_masks, beside):
    """Its decoder is not there any more, and that is said before a model is built."""
    evaluate(beside, device="cpu")
    edit(beside, "grids:", "grid:")
    again = "was made by an earlier version, with another mask decoder: train again"
    for use in (
        lambda: evaluate(beside, device="cpu"),
        lambda: make_report(beside),
        lambda: train(TrainOptions(run=beside, resume=True)),
    ):
        with pytest.raises(UsageError, match=again):
            use()


def test_events_of_an_earlier_version(toy_events, tmp_path):
    """Their settings had places for masks, too; they are used as ever."""
    run = train(TrainOptions(cache=toy_events.cache, run=tmp_path / "run", overrides=(*TINY, "epochs=1")))
    edit(run, "  shapes:\n", "  grid: [0, 0]\n  prefix_tokens: 0\n  mask_size: [0, 0]\n  shapes:\n")
    (run / runs.SAMPLES).unlink()
    assert evaluate(run, device="cpu")["samples"] == 8
    train(TrainOptions(run=run, resume=True))


def test_weights_of_another_model(toy_masks, beside, tmp_path):
    tensors = load_file(beside / runs.BEST)
    dropped = next(name for name in tensors if name.startswith("model.head."))
    facts = {checkpoint.FACTS: '{"epoch": 1}'}
    save_file({name: value for name, value in tensors.items() if name != dropped}, beside / runs.BEST, facts)
    named = dropped.removeprefix("model.")
    with pytest.raises(UsageError, match=f"its weights {named} are not those of this version's model: train it again"):
        train(segment(toy_masks, tmp_path / "run", start=str(beside)))


def test_stopped_before_any_checkpoint_it_begins_the_same(toy_masks, beside, tmp_path, monkeypatch):
    """The run that it started from is gone by then."""
    options = (*TINY, *AT_SIDE, "dropout=0.3", "epochs=2")
    whole = train(segment(toy_masks, tmp_path / "whole", options))
    step = Trainer._step

    def stop(trainer, batch, rate):
        if trainer.running.step == 3:
            raise KeyboardInterrupt
        return step(trainer, batch, rate)

    monkeypatch.setattr(Trainer, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(segment(toy_masks, tmp_path / "run", options))
    monkeypatch.setattr(Trainer, "_step", step)
    assert not (tmp_path / "run" / runs.LAST).exists()
    shutil.rmtree(beside)
    with pytest.raises(UsageError, match="goes on from its own checkpoint: leave out --start"):
        train(TrainOptions(run=tmp_path / "run", resume=True, start="none"))
    train(TrainOptions(run=tmp_path / "run", resume=True))
    for name in (runs.LAST, runs.BEST):
        ours, theirs = (checkpoint.read(run / name)[0] for run in (tmp_path / "run", whole))
        assert list(ours) == list(theirs)
        assert all(ours[key].equal(theirs[key]) for key in ours), name
    assert (tmp_path / "run" / runs.STEPS).read_bytes() == (whole / runs.STEPS).read_bytes()


def test_what_injections_alone_use_need_not_be_equal(toy_masks, tmp_path, said):
    """Without adaptation in the distiller, rank and heads are the injections' own."""
    keep = (*TINY, "epochs=1", "branches=keep")
    train(TrainOptions(cache=toy_masks.cache, run=tmp_path / "d", overrides=keep))
    other = ("rank=8" if setting == "rank=16" else setting for setting in keep)
    train(segment(toy_masks, tmp_path / "run", (*other, *AT_SIDE)))
    assert said == [f"start: distiller and decoder as {tmp_path / 'd'} left them"]


def test_what_it_started_from_is_damaged(toy_masks, beside, tmp_path):
    run = train(segment(toy_masks, tmp_path / "run"))
    (run / runs.LAST).unlink()
    (run / runs.START).write_bytes((run / runs.BEST).read_bytes())
    with pytest.raises(CorruptionFound, match=r"is not what the run started from: copy .*/d/best\.safetensors there"):
        train(TrainOptions(run=run, resume=True))


def test_a_start_is_for_stage_segment(toy_masks, tmp_path):
    with pytest.raises(UsageError, match="--start is for --stage segment"):
        train(TrainOptions(cache=toy_masks.cache, run=tmp_path / "run", start="none"))


@pytest.mark.parametrize(
    ("toy", "settings", "why"),
    [
        ("toy_events", (), "--stage segment is for data with masks, this is events"),
        ("toy_masks", ("modality=audio",), "modality=audio leaves it out: set inject=none"),
    ],
)
def test_what_stage_segment_is_not_for(request, tmp_path, toy, settings, why):
    with pytest.raises(UsageError, match=why):
        train(segment(request.getfixturevalue(toy), tmp_path / "run", (*SMALL, *settings)))


def test_sound_alone_with_the_decoder(toy_masks, tmp_path, said):
    """Distilled and gone on with; nothing to inject into."""
    alone = (*SMALL, "modality=audio")
    train(TrainOptions(cache=toy_masks.cache, run=tmp_path / "d", overrides=alone))
    run = train(segment(toy_masks, tmp_path / "run", (*alone, "inject=none")))
    assert said == [f"start: distiller and decoder as {tmp_path / 'd'} left them"]
    assert RunConfig.load(run).model.injected == {}
