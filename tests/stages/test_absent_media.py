"""What silence and grey frames with a mask do to training: a clip of which nothing is real in the modalities in use
moves no weight, and one of which half is real counts as any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap
from avpipe.stages.model import describe
from avpipe.stages.model.cached import EventModel
from avpipe.stages.tasks.events import EventsTask

SMALL = TrainConfig(width=16, rank=16, heads=4, meta_tokens=2, dropout=0.0)


@pytest.fixture
def with_silence(toy_events):
    """Training clips by the modalities in use: the first has silence in place of sound."""
    samples = load_dataset("ave", toy_events.root).split("train")[:3]
    cache = open_cache(toy_events.cache)

    def build(*modalities: str) -> ClipFeatures:
        store = FeatureStore(cache, every_tap(cache, modalities), [sample.clip for sample in samples], residency="disk")
        silent = store.clips[samples[0].clip]
        masks = {"audio": np.zeros(10, dtype=bool), "visual": np.ones(10, dtype=bool)}
        store.clips[samples[0].clip] = replace(silent, masks=masks)
        return ClipFeatures(store, samples)

    return build


def gradients(data: ClipFeatures, places: list[int]) -> dict[str, torch.Tensor]:
    """Of the loss of one step on some samples, by weight."""
    torch.manual_seed(0)
    shapes = {m: {tap: data.store.specs[f"{m}/{tap}"].row_shape for tap in taps} for m, taps in data.store.taps.items()}
    model = EventModel(describe(open_cache(data.store.path), shapes, "events", 29), SMALL)
    batch = data.batch(places)
    batch = replace(batch, tokens={m: {tap: x.float() for tap, x in taps.items()} for m, taps in batch.tokens.items()})
    EventsTask(data.samples, 29, SMALL).loss(model(batch), batch).backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def test_a_silent_clip_counts_where_its_pictures_are_used(with_silence):
    assert with_silence("audio").batch([0, 1]).valid.any(1).tolist() == [False, True]
    assert with_silence("visual").batch([0, 1]).valid.all()
    assert with_silence("audio", "visual").batch([0, 1]).valid.all()


def test_a_silent_clip_moves_no_weight_of_a_model_of_sound(with_silence):
    data = with_silence("audio")
    beside, without = gradients(data, [0, 1, 2]), gradients(data, [1, 2])
    assert beside.keys() == without.keys()
    for name, gradient in without.items():
        torch.testing.assert_close(beside[name], gradient, rtol=1e-4, atol=1e-6)
    assert all(not gradient.any() for gradient in gradients(data, [0]).values())
    assert any(gradient.abs().max() > 1e-3 for gradient in without.values())
    both = gradients(with_silence("audio", "visual"), [0])
    assert any(gradient.any() for gradient in both.values())
