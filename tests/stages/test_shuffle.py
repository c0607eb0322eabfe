"""What layers are worth: whose tokens come in where, and that the costs are those of the scores."""

import numpy as np
import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages import checkpoint, runs
from avpipe.stages.evaluate import evaluate
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap
from avpipe.stages.model import build_model
from avpipe.stages.runs import RunConfig
from avpipe.stages.shuffle import donors, passes, shuffle_costs
from avpipe.stages.tasks import EventsTask
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import find_inputs, labelled

CPU = torch.device("cpu")


def test_every_clip_gets_another_one():
    clips = [f"c{i}" for i in range(7)]
    found = donors([*clips, *clips], seed=3)
    assert sorted(found) == sorted(found.values()) == clips
    assert all(clip != giver for clip, giver in found.items())
    assert found == donors(clips, seed=3)
    assert found != donors(clips, seed=4)
    with pytest.raises(UsageError, match="there are 1 with features"):
        donors(["a", "a"], seed=0)


class Recorder(torch.nn.Module):
    """Keeps the tokens that it is shown; one class for all."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batch):
        self.seen.append((batch.indices, batch.tokens))
        return torch.zeros(*batch.present.shape, 3)


@pytest.fixture
def lengths(tmp_path, fill_cache):
    """Four clips of 3, 5, 4 and 2 segments whose tokens say clip and segment, and a fifth sample without features."""
    tokens = {
        f"c{i}": {
            m: (np.arange(t) + 10 * i)[:, None, None] * np.ones((1, n, 16)) for m, n in (("audio", 9), ("visual", 17))
        }
        for i, t in enumerate((3, 5, 4, 2))
    }
    fill_cache(tmp_path / "cache", {"name": "ave", "root": str(tmp_path)}, tokens)
    samples = [
        Sample(f"s{i}", clip, "test", events=(0,) * len(x["audio"])) for i, (clip, x) in enumerate(tokens.items())
    ]
    samples.insert(1, Sample("none", "none", "test", events=(0, 2)))
    cache = open_cache(tmp_path / "cache")
    store = FeatureStore(cache, every_tap(cache, ("audio", "visual")), [sample.clip for sample in samples])
    return ClipFeatures(store, samples), EventsTask(samples, 3)


def test_only_the_chosen_tokens_come_from_the_giver(lengths):
    data, task = lengths
    model, done = Recorder(), []
    found = shuffle_costs(model, data, task, batch=4, device=CPU, seed=1, advance=done.append)
    assert [(row.modality, row.tap) for row in found.rows] == [
        (m, tap) for m in ("audio", "visual") for tap in (None, "blocks.9", "blocks.10")
    ]
    assert sum(done) == passes(data) * len(data.held) == 7 * 4
    # class 0 everywhere is right but for the sample without features, whose blank answer is background, right in half
    assert found.base == pytest.approx(15 / 16)
    assert all((row.score, row.cost) == (found.base, 0) for row in found.rows)
    givers = donors([data.samples[i].clip for i in data.held], seed=1)
    scale = {"blocks.9": 2, "blocks.10": 1}
    for (indices, tokens), row in zip(model.seen[1:], found.rows, strict=True):
        for position, index in enumerate(indices):
            sample = data.samples[index]
            for modality, taps in tokens.items():
                for tap, x in taps.items():
                    exchanged = modality == row.modality and row.tap in (None, tap)
                    clip = givers[sample.clip] if exchanged else sample.clip
                    steps = np.arange(len(sample.events)) % data.store.clips[clip].segments
                    expected = (steps + 10 * int(clip[1:])) * scale[tap]
                    assert x[position, : len(steps), 0, 0].tolist() == expected.tolist()


class Sum(torch.nn.Module):
    """One class for what the tokens add up to, so that an exchange changes the answer."""

    def forward(self, batch):
        total = sum(x.float().sum(dim=(-2, -1)) for taps in batch.tokens.values() for x in taps.values())
        return torch.stack([torch.zeros_like(total), total - 9000, torch.zeros_like(total)], dim=-1)


def test_several_exchanges_are_averaged(lengths):
    data, task = lengths
    alone = [shuffle_costs(Sum(), data, task, batch=3, device=CPU, seed=4 + n).rows for n in range(3)]
    done = []
    found = shuffle_costs(Sum(), data, task, batch=3, device=CPU, seed=4, exchanges=3, advance=done.append)
    assert sum(done) == passes(data, 3) * len(data.held) == (1 + 3 * 6) * 4
    for row, *single in zip(found.rows, *alone, strict=True):
        scores = [one.score for one in single]
        assert row.score == pytest.approx(np.mean(scores))
        assert row.cost == pytest.approx(found.base - np.mean(scores))
        assert row.spread == pytest.approx(np.std(scores, ddof=1))
        assert [one.spread for one in single] == [0, 0, 0]
    assert max(row.spread for row in found.rows) > 0
    with pytest.raises(UsageError, match="1 or more"):
        shuffle_costs(Sum(), data, task, batch=3, device=CPU, exchanges=0)


@pytest.mark.parametrize("residency", ["ram", "disk"])
def test_only_the_exchanged_arrays_are_read_of_the_givers(lengths, residency, monkeypatch):
    data, task = lengths
    store = FeatureStore(open_cache(data.store.path), data.store.taps, data.store.clips, residency=residency)
    rows = np.array([0, 3, 1])
    for name, values in store.read(rows, ["audio/blocks.9"]).items():
        assert name == "audio/blocks.9"
        assert (values == store.read(rows)[name]).all()
    asked, read = [], FeatureStore.read
    monkeypatch.setattr(
        FeatureStore,
        "read",
        lambda self, rows, arrays=None, out=None: asked.append(arrays) or read(self, rows, arrays, out),
    )
    shuffle_costs(Sum(), ClipFeatures(store, data.samples), task, batch=4, device=CPU)
    both = ("blocks.9", "blocks.10")
    givers = [[f"{m}/{tap}" for tap in taps] for m in ("audio", "visual") for taps in (both, *((tap,) for tap in both))]
    assert [names for names in asked if names is not None] == givers


def test_costs_of_a_trained_run(toy_events, tmp_path):
    run = train(TrainOptions(cache=toy_events.cache, run=tmp_path / "run", overrides=("epochs=6",)))
    config = RunConfig.load(run)
    inputs = find_inputs(config.dataset, toy_events.root, toy_events.cache)
    samples = labelled(inputs.dataset, "test")
    taps = {m: tuple(shapes) for m, shapes in config.model.shapes.items()}
    data = ClipFeatures(FeatureStore(inputs.cache, taps, [s.clip for s in samples]), samples)
    model = build_model(config.model, config.train)
    checkpoint.restore(run / runs.BEST, model)
    found = shuffle_costs(model, data, config.build_task(samples), batch=3, device=CPU)
    assert found.metric == "accuracy"
    assert found.base == evaluate(run)["metrics"]["accuracy"]
    costs = {(row.modality, row.tap): row.cost for row in found.rows}
    # an event needs the sight and the sound of one class, so either modality of another clip must hurt
    assert costs["audio", None] > 0.1
    assert costs["visual", None] > 0.1
    assert all(row.cost == found.base - row.score for row in found.rows)
