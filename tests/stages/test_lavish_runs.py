"""Runs of `--method lavish`: from stored frames and samples to scores, resumed, exchanged, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.stages import checkpoint, distill, runs
from avpipe.stages.config import TrainConfig
from avpipe.stages.effect import idle
from avpipe.stages.evaluate import evaluate
from avpipe.stages.extract import extract
from avpipe.stages.features import ClipFeatures, FeatureStore
from avpipe.stages.inference import load_trained
from avpipe.stages.job import Wish, choose_backbones, resolve
from avpipe.stages.lavish.wanted import describe
from avpipe.stages.model import ModelSpec, build_model, model_spec, open_trunks, reading
from avpipe.stages.runs import RunConfig
from avpipe.stages.shuffle import passes, shuffle_costs
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_inputs import labelled
from avpipe.stages.train_loop import Trainer
from avpipe.stages.train_options import settings

CPU = torch.device("cpu")
FEW = ("width=16", "rank=8", "heads=4", "meta_tokens=2", "batch=3", "lr=0.003")


@pytest.fixture(scope="module")
def stored(new_ave, tmp_path_factory):
    """A cache of 10 clips: 32-pixel frames, log-mel sound, the last block of each backbone in float32."""
    base = tmp_path_factory.mktemp("lavish")
    new_ave(base / "data" / "ave").add(10)
    dataset = load_dataset("ave", base / "data" / "ave")
    wishes = {m: Wish("test_vit", "random:0", 32 if m == "visual" else None) for m in ("visual", "audio")}
    chosen = choose_backbones(dataset, wishes)
    common = {"cache": base / "cache", "dtype": "float32", "decoder": "decord", "device": "cpu", "batch": None}
    assert extract(dataset, resolve(dataset, chosen, layers="last:1", deadline_seconds=60.0, **common)).left == 0
    return base / "cache"


@pytest.fixture(scope="module")
def lavish_run(stored, tmp_path_factory):
    """A scored run of two epochs; do not change it."""
    run = train(options(stored, tmp_path_factory.mktemp("run") / "whole"))
    evaluate(run)
    return run


def options(cache, run, epochs=2, **others):
    return TrainOptions(cache=cache, run=run, method="lavish", overrides=(*FEW, f"epochs={epochs}"), **others)


def test_with_closed_gates_it_is_the_control_on_cached_tokens(stored):
    cache = open_cache(stored)
    config = TrainConfig(method="lavish", width=16, rank=8, heads=4, dropout=0.0)
    samples = load_dataset("ave", stored.parent / "data" / "ave").split("train")
    found, weights = [], None
    for method in ("lavish", "linear"):
        config = replace(config, method=method)
        spec = model_spec(cache, config, "events", 29)
        model = build_model(spec, config, open_trunks(cache, spec, config, "cpu")).eval()
        weights = model.model.state_dict() if weights is None else weights
        (model.model if method == "lavish" else model).load_state_dict(weights)
        read = reading(spec, config)
        store = FeatureStore(cache, read.taps, [s.clip for s in samples], residency="disk", media=read.media)
        batch = ClipFeatures(store, samples).batch([0, 1])
        batch.present[1, 7:] = False
        with torch.no_grad():
            found.append(model(batch)[batch.present])
    assert (found[0] - found[1]).norm() / found[1].norm() < 1e-6


def test_masks_are_decoded_from_adapted_stage_ends(stored):
    cache = open_cache(stored)
    config = TrainConfig(method="lavish", width=16, rank=8, heads=4, head="mask")
    spec = describe(cache, config, "segmentation", 2, (32, 32))
    assert list(spec.shapes["visual"]) == ["blocks.1", "blocks.2", "blocks.3", "blocks.5"]
    assert list(spec.shapes["audio"]) == ["blocks.5"]
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    model = build_model(spec, config, open_trunks(cache, spec, config, "cpu"))
    clip = next(iter(cache.clips()))
    store = FeatureStore(cache, {}, [clip], media=reading(spec, config).media)
    rows = store.read(cache.rows([clip]))
    samples = load_dataset("ave", stored.parent / "data" / "ave").samples
    batch = ClipFeatures(store, [sample for sample in samples if sample.clip == clip]).batch([0])
    assert batch.tokens == {}
    assert batch.media["visual"][0].equal(rows["visual/frames"])
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # gates too: as the model starts, nothing of the sound gets through
            parameter += 0.1 * torch.randn_like(parameter)
    logits = model(batch)
    assert logits.shape[:2] == (1, 10)
    logits.square().sum().backward()
    gates = [p.grad for name, p in model.named_parameters() if name.endswith("gate") and "adapters" in name]
    assert len(gates) == 2 * 6 * 2
    assert all(gate.abs() > 0 for gate in gates)


def test_parsing_takes_adapted_tokens_too(stored):
    cache, config = open_cache(stored), TrainConfig(method="lavish", width=16, rank=8, heads=4, head="han")
    spec = model_spec(cache, config, "parsing", 5)
    model = build_model(spec, config, open_trunks(cache, spec, config, "cpu")).eval()
    samples = load_dataset("ave", stored.parent / "data" / "ave").split("train")[:2]
    store = FeatureStore(cache, {}, [s.clip for s in samples], media=reading(spec, config).media)
    batch = ClipFeatures(store, samples).batch([0, 1])
    with torch.no_grad():
        before = model(batch).segment
        for parameter in model.backbones.parameters():
            parameter += 0.3
        after = model(batch).segment
    assert before.shape[0] == 2
    assert 0 <= before.min() < before.max() <= 1
    assert not before.allclose(after, atol=1e-4)


def test_a_run_learns_its_adapters(lavish_run, stored):
    epochs = [json.loads(line) for line in (lavish_run / runs.EPOCHS).read_text().splitlines()]
    assert epochs[1]["train_loss"] < epochs[0]["train_loss"] - 0.05
    tensors, _ = checkpoint.read(lavish_run / runs.LAST)
    gates = [x for name, x in tensors.items() if name.startswith("model.backbones") and name.endswith(".gate")]
    assert len(gates) == 24
    assert all(gate.abs() > 1e-4 for gate in gates)
    running = [x for name, x in tensors.items() if name.startswith("model.") and name.endswith("norm_up.mean")]
    assert all(mean.abs().max() > 0 for mean in running)
    assert not any("trunk" in name or "outside" in name for name in tensors)
    metrics = json.loads((lavish_run / "metrics.json").read_text())
    assert metrics["method"] == "lavish"
    assert metrics["missing"] == 0


def test_a_stopped_run_goes_on_bit_for_bit(lavish_run, stored, tmp_path, monkeypatch):
    step, done = Trainer._step, []

    def stop(self, batch, rate):
        done.append(rate)
        if len(done) == 3:
            raise KeyboardInterrupt
        return step(self, batch, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(options(stored, tmp_path / "run", checkpoint_seconds=0.0))
    train(TrainOptions(run=tmp_path / "run", resume=True))
    assert (tmp_path / "run" / runs.STEPS).read_text() == (lavish_run / runs.STEPS).read_text()
    for name in (runs.LAST, runs.BEST):
        (ours, _), (theirs, _) = checkpoint.read(tmp_path / "run" / name), checkpoint.read(lavish_run / name)
        assert list(ours) == list(theirs)
        assert all(ours[key].equal(theirs[key]) for key in ours)


def test_frames_and_samples_are_exchanged(lavish_run, stored):
    config, cache = RunConfig.load(lavish_run), open_cache(stored)
    samples = labelled(load_dataset("ave", stored.parent / "data" / "ave"), "train")
    trained = load_trained(lavish_run, config, cache, samples, CPU)
    seen, forward = [], trained.model.forward

    def record(batch):
        seen.append(batch)
        return forward(batch)

    trained.model.forward = record
    task = config.build_task(samples)
    found = shuffle_costs(trained.model, trained.data, task, batch=8, device=CPU)
    assert [(row.modality, row.tap) for row in found.rows] == [("audio", None), ("visual", None)]
    assert passes(trained.data) == len(seen) / -(-len(samples) // 8) == 3
    whole, sound, sight = (seen[i * len(seen) // 3].media for i in range(3))
    assert sound["visual"].equal(whole["visual"])
    assert sight["audio"].equal(whole["audio"])
    assert not sound["audio"].equal(whole["audio"])
    assert not sight["visual"].equal(whole["visual"])
    assert sorted(map(bytes, sight["visual"].flatten(1).numpy())) == sorted(
        map(bytes, whole["visual"].flatten(1).numpy())
    )


def test_a_report_shows_the_worth_of_both_modalities(lavish_run, avpipe_here):
    avpipe_here("report", "--run", lavish_run)
    page = (lavish_run / "report.html").read_text()
    assert "lavish" in page


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"modality": "audio"}, "--modality audio leaves one"),
        ({"stage": "segment"}, "has no --stage segment"),
    ],
)
def test_what_it_cannot_do_is_refused(wanted, message):
    with pytest.raises(UsageError, match=message):
        settings(TrainOptions(method="lavish", **wanted), "segmentation")


def test_a_clip_window_and_one_modality_alone_are_refused(stored):
    cache, config = open_cache(stored), TrainConfig(method="lavish")
    visual, audio = cache.specs["visual"], cache.specs["audio"]

    def holding(**specs):
        return SimpleNamespace(path=cache.path, dataset=cache.dataset, arrays=cache.arrays, specs=specs)

    clip = replace(audio, request={**audio.request, "window": "clip"})
    with pytest.raises(UsageError, match="--audio-window segment"):
        describe(holding(visual=visual, audio=clip), config, "events", 29)
    with pytest.raises(UsageError, match="holds nothing of audio"):
        describe(holding(visual=visual), config, "events", 29)


def test_the_method_is_known_and_its_settings_too():
    assert {"lavish", "linear", "mettle"} <= set(distill.methods())
    assert "lavish" not in distill.names()
    without = idle(TrainConfig(method="lavish"), "events")
    assert {"taps", "codec", "branches", "gate"} <= set(without)
    assert not {"meta_tokens", "rank", "checkpointing"} & set(without)
    with pytest.raises(UsageError, match="lavish"):
        settings(TrainOptions(method="lavich"), "events")
