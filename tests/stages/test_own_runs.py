"""Training and scoring on a user's own table: which table and cache are meant, clips of different lengths."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_toy import OwnClip, make_own

from avpipe.pipeline.errors import UsageError
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.inference import load_trained
from avpipe.stages.report.sources import open_sources
from avpipe.stages.runs import RunConfig
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import find_inputs

SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A table of events, its cache, and a scored run; do not change them."""
    base = tmp_path_factory.mktemp("events")
    table, cache = make_own(base, "events.csv")
    run = train(TrainOptions(dataset=str(table), cache=cache, run=base / "run", overrides=SMALL))
    evaluate(run)
    return table, cache, run


@pytest.fixture
def copy(events, tmp_path):
    """Their own copy: the table, the cache that knows the original place, and the run."""
    data, cache, run = (shutil.copytree(p, tmp_path / p.name) for p in (events[0].parent, events[1], events[2]))
    return data / events[0].name, cache, run


@contextmanager
def changed(file: Path, text: str | None):
    """A file with other content (None: gone) while the block runs."""
    kept = file.read_text()
    file.unlink() if text is None else file.write_text(text)
    yield
    file.write_text(kept)


@pytest.mark.parametrize("table", ["events.csv", "masks.csv"])
def test_clips_of_different_lengths_are_learned_and_scored_alike_in_any_batch(table, tmp_path, events):
    if table == "events.csv":
        file, cache, run = events
    else:
        file, cache = make_own(tmp_path, table)
        run = train(TrainOptions(dataset=str(file), cache=cache, run=tmp_path / "run", overrides=SMALL))
    result = evaluate(run)
    inputs = find_inputs(str(file), None, cache)
    samples = inputs.dataset.split("test")
    lengths = [len(sample.events or sample.masks) for sample in samples]
    assert len(set(lengths)) > 3
    assert result["samples"] == len(samples) == 6
    assert result["metrics"].get("segments", result["metrics"].get("frames")) == sum(lengths)
    config = RunConfig.load(run)
    trained = load_trained(run, config, inputs.cache, samples, torch.device("cpu"), residency="disk")
    task = config.build_task(samples)
    with torch.no_grad():
        together = trained.model(batch := trained.data.batch(range(6)))
        for index, prediction in enumerate(task.predictions(together, batch)):
            assert len(prediction) == lengths[index]
            alone = trained.data.batch([index])
            (own,) = task.predictions(trained.model(alone), alone)
            np.testing.assert_allclose(np.float32(own), np.float32(prediction), atol=2e-3)


def test_padding_teaches_nothing(events):
    table, cache, run = events
    inputs, config = find_inputs(str(table), None, cache), RunConfig.load(run)
    samples = sorted(inputs.dataset.split("train"), key=lambda sample: len(sample.events))[:: len(SMALL)]
    store = FeatureStore(inputs.cache, {m: tuple(t) for m, t in config.model.shapes.items()}, [s.clip for s in samples])
    data, task = ClipFeatures(store, samples), config.build_task(samples)
    trained = load_trained(run, config, inputs.cache, samples, torch.device("cpu"), residency="disk")
    batch = data.batch(range(len(samples)))
    logits = trained.model(batch)
    counted = sum(len(sample.events) for sample in samples)
    assert int(batch.present.sum()) == counted < batch.present.numel()
    moved = logits + 100 * torch.randn_like(logits) * ~batch.present[..., None]
    assert torch.equal(task.loss(logits, batch), task.loss(moved, batch))


def test_the_run_remembers_how_the_table_was_read(events):
    table, _, run = events
    config = RunConfig.load(run)
    assert (config.dataset, config.root) == ("events.csv", str(table.parent.resolve()))
    assert config.options == {"segment_seconds": "1", "frame_position": "0.5"}
    assert config.classes == ("blue@thing", "red thing", "background")


def test_the_table_is_found_from_anywhere(events, monkeypatch, tmp_path):
    table, cache, run = events
    monkeypatch.chdir(tmp_path)
    assert find_inputs(None, None, cache).dataset.root == table.parent
    assert find_inputs("events.csv", None, cache).dataset.root == table.parent
    assert evaluate(run)["metrics"] == evaluate(run, root=table.parent)["metrics"]
    monkeypatch.chdir(table.parent)
    assert find_inputs("events.csv", None, cache).dataset.root.resolve() == table.parent.resolve()


def test_another_table_of_the_same_name_is_not_the_one_of_the_cache(events, copy):
    (other, cache, _), (table, _, _) = copy, events
    assert find_inputs(str(other), None, cache).dataset.root == other.parent  # a copy
    other.write_text(other.read_text() + "\n")
    with pytest.raises(UsageError, match=r"holds features of .*name another one with --cache"):
        find_inputs(str(other), None, cache)
    with changed(table, None):
        assert find_inputs(str(other), None, cache).dataset.root == other.parent  # that of the cache is gone: moved
    for name in ("events", "other.csv"):
        with pytest.raises(UsageError):
            find_inputs(name, other.parent, cache)


def test_one_cache_serves_every_task_of_a_table(events):
    table, cache, run = events
    header, *rows = table.read_text().splitlines()
    both = [f"{header},masks", *(f"{row},m/{row.partition(',')[0]}" for row in rows)]
    with changed(table, "\n".join(both)):
        assert find_inputs(None, None, cache).dataset.task == "events"  # as it was extracted
        found = find_inputs(str(table), None, cache, "segmentation").dataset
        assert all(any(sample.masks) for sample in found.samples)
        assert evaluate(run)["task"] == "events"
        with pytest.raises(UsageError, match="no column for task qa"):
            find_inputs(None, None, cache, "qa")


def test_other_classes_than_at_training_are_refused(events):
    table, _, run = events
    with changed(table, table.read_text().replace("red thing", "green")):
        with pytest.raises(UsageError, match="differ in 'green', 'red thing'"):
            evaluate(run)
        with pytest.raises(UsageError, match="differ in"):
            train(TrainOptions(run=run, resume=True))
        sources = open_sources(run, "test", None, None, "cpu")
        assert sources.samples == ()
        assert any("other classes" in note for note in sources.notes)
    assert len(open_sources(run, "test", None, None, "cpu").samples) == 6


def test_a_report_finds_the_table_without_the_cache(copy):
    table, _, run = copy
    config = RunConfig.load(run)
    (run / "config.yaml").write_text(replace(config, cache=str(run / "none"), root=str(table.parent)).to_yaml())
    header, *rows = table.read_text().splitlines()
    rows = [f"{row},{OwnClip(number).segments}" for number, row in enumerate(rows)]  # there are no videos to ask
    table.write_text("\n".join([f"{header},segments", *rows]))
    assert len(open_sources(run, "test", None, None, "cpu").samples) == 6


def test_a_task_without_a_head_is_refused_before_anything_is_extracted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("clip,media,split,question,answer\na,v.mp4,train,Why?,x\n")
    with pytest.raises(UsageError, match=r"task qa.*not in this version.*`score` work"):
        find_inputs("t.csv", None, None)
    Path("l.csv").write_text("clip,media,split,labels\na,v.mp4,train,x\n")
    with pytest.raises(UsageError, match=r"no features of l\.csv yet"):
        find_inputs("l.csv", None, None)
    Path("e.csv").write_text("clip,media,split,events,labels\na,v.mp4,train,x@0-1,x\n")
    with pytest.raises(UsageError, match="name one with --task"):
        find_inputs("e.csv", None, None)
    with pytest.raises(UsageError, match=r"no features of e\.csv yet"):
        find_inputs("e.csv", None, None, "events")
