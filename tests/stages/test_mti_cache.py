"""Injection on a cache that stage one made: the backbone opened again, what is read, and clips exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.config import TrainConfig
from avpipe.stages.extract import extract
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap
from avpipe.stages.job import Wish, choose_backbones, resolve
from avpipe.stages.model import ModelSpec, build_model, describe, open_trunks, reading, shapes_of
from avpipe.stages.model.mti import MtiModel
from avpipe.stages.shuffle import donors, shuffle_costs

CPU = torch.device("cpu")
CONFIG = TrainConfig(stage="segment", modality="visual", head="mask", width=16, rank=8, heads=2, meta_tokens=2)
BLOCKS, INJECTED = 6, "blocks.4"
TAPS = tuple(f"blocks.{i}@float32" for i in range(BLOCKS))


@pytest.fixture(scope="module")
def cached(new_ave, tmp_path_factory):
    """Four clips whose visual tokens are stored whole, in float32."""
    base = tmp_path_factory.mktemp("mti")
    new_ave(base / "ave").add(4)
    dataset = load_dataset("ave", base / "ave")
    choices = {"visual": choose_backbones(dataset, {"visual": Wish("test_vit", "random:0", 32)})["visual"]}
    job = resolve(
        dataset,
        choices,
        cache=base / "cache",
        layers="all",
        dtype="float32",
        decoder="decord",
        device="cpu",
        batch=None,
        deadline_seconds=60.0,
    )
    assert extract(dataset, job).left == 0
    return open_cache(base / "cache"), [s for split in ("train", "val", "test") for s in dataset.split(split)]


def specs(cache) -> dict[str, ModelSpec]:
    """Models with meta-tokens before `INJECTED`: run from there on, from the frames on, and the plain one."""
    plain = describe(cache, shapes_of(cache, every_tap(cache, ("visual",))), "segmentation", 2, (32, 32))
    injected = replace(plain, injected={INJECTED: plain.shapes["visual"][TAPS[3]][1]})
    return {"resumed": replace(injected, resume=TAPS[3]), "full": injected, "plain": plain}


def ready(cached, kind: str, gates: float):
    """A model in evaluation, with its features."""
    cache, samples = cached
    spec = specs(cache)[kind]
    trunks = open_trunks(cache, spec, CONFIG, "cpu")
    torch.manual_seed(2)
    model = build_model(spec, CONFIG, trunks).eval()
    assert isinstance(model, MtiModel) == bool(trunks) == (kind != "plain")
    if trunks:
        torch.nn.init.normal_(model.injections["blocks_4"].gate, std=gates)
    read = reading(spec, CONFIG)
    store = FeatureStore(cache, read.taps, [s.clip for s in samples], residency="ram", media=read.media)
    return model, ClipFeatures(store, samples), trunks


def answers(model, data) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(data.batch(list(range(len(data)))))
    return found


@pytest.mark.parametrize(("kind", "blocks"), [("resumed", 2), ("full", BLOCKS)])
def test_the_backbone_of_the_cache_goes_on(cached, kind, blocks):
    model, data, trunks = ready(cached, kind, gates=0.0)
    expected = answers(*ready(cached, "plain", gates=0.0)[:2])
    assert float((answers(model, data) - expected).norm() / expected.norm()) <= 1e-6
    assert trunks["visual"].names == tuple(f"blocks.{i}" for i in range(BLOCKS))[-blocks:]
    assert data.store.taps == {"visual": (*TAPS[:4], TAPS[5]) if kind == "resumed" else TAPS[5:]}
    assert data.store.media == (() if kind == "resumed" else ("visual",))


class Order:
    """Scores that tell whose prediction stands where."""

    metric = "order"

    def predictions(self, logits, batch):
        return [float(row.abs().mean()) for row in logits]

    def blank(self, index):
        raise AssertionError("every sample has features")

    def validate(self, predictions):
        return float(np.dot(list(predictions), 10.0 ** np.arange(4)))


@pytest.mark.parametrize("kind", ["resumed", "full"])
def test_all_of_sight_is_exchanged_together(cached, kind):
    model, data, _ = ready(cached, kind, gates=1.0)
    found = shuffle_costs(model, data, Order(), batch=4, device=CPU, seed=1)
    own = [float(row.abs().mean()) for row in answers(model, data)]
    assert found.base == pytest.approx(Order().validate(own), rel=1e-5)
    rows = {row.tap: row.score for row in found.rows}
    assert list(rows) == [None, *data.store.taps["visual"]]
    clips = [sample.clip for sample in data.samples]
    givers = donors(clips, seed=1)
    theirs = Order().validate(own[clips.index(givers[clip])] for clip in clips)
    assert rows[None] == pytest.approx(theirs, rel=1e-5)
    assert len({round(score, 5) for score in [found.base, *rows.values()]}) == len(rows) + 1
