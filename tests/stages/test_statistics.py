"""Statistics of tokens: right for what is stored, written with the taps, read with them, made again by a repair."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from extracting import stub_job

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import ArraySpec
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.extract import extract
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap
from avpipe.stages.shuffle import _exchanged
from avpipe.stages.statistics import EPS, is_statistics, statistics_name, statistics_spec, tap_of, token_statistics
from avpipe.stages.train_inputs import labelled


@pytest.fixture(scope="module")
def cached(tiny_ave, tmp_path_factory):
    """A dataset and the cache of its stub features."""
    dataset = load_dataset("ave", tiny_ave.root)
    job = stub_job(dataset, tmp_path_factory.mktemp("statistics") / "c", "visual", "audio", layers="last:2")
    extract(dataset, job)
    return dataset, job


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_they_are_what_layernorm_computes(dtype):
    rng = np.random.default_rng(0)
    tokens = rng.normal(3, 2, (2, 5, 64)).astype(dtype)
    tokens[..., 7] *= 100  # an outlier channel
    values = torch.from_numpy(tokens.astype(np.float64))
    _, mean, rstd = torch.native_layer_norm(values, (64,), None, None, EPS)
    found = token_statistics(tokens)
    assert (found.shape, found.dtype) == ((2, 5, 2), np.float32)
    np.testing.assert_allclose(found[..., 0], mean.squeeze(-1), rtol=1e-5)
    np.testing.assert_allclose(found[..., 1], rstd.squeeze(-1), rtol=1e-5)


def test_names_lead_there_and_back():
    tap = ArraySpec("visual/blocks.3@float32", (17, 16), "float32")
    own = statistics_spec(tap)
    assert (own.name, own.row_shape, own.dtype) == ("visual/blocks.3@float32.stats", (17, 2), "float32")
    assert is_statistics(own.name)
    assert not is_statistics(tap.name)
    assert tap_of(own.name) == tap_of(tap.name) == tap.name


def test_every_tap_is_stored_with_its_own(cached):
    _, job = cached
    cache = open_cache(job.cache)
    rows = cache.rows(sorted(cache.clips())[:2])
    taps = [name for name in cache.arrays if "blocks" in name and not is_statistics(name)]
    assert len(taps) == 4
    for tap in taps:
        found = cache.read(rows, [tap, statistics_name(tap)])
        np.testing.assert_array_equal(found[statistics_name(tap)], token_statistics(found[tap]))


def test_a_cache_from_before_stays_without(cached, tmp_path):
    dataset, job = cached
    old = stub_job(dataset, tmp_path / "c", "visual", "audio", layers="last:2")
    extract(dataset, replace(old, statistics=frozenset()))
    again = stub_job(dataset, tmp_path / "c", "visual", "audio", layers="last:2")
    assert again.statistics == frozenset()
    assert stub_job(dataset, tmp_path / "c", "visual", layers="all").statistics == {
        "visual/blocks.0",
        "visual/blocks.1",
    }
    assert stub_job(dataset, job.cache, "visual", layers="last:2").statistics == {"visual/blocks.2", "visual/blocks.3"}
    store = FeatureStore(open_cache(tmp_path / "c"), {"visual": ("blocks.3",)}, [c.id for c in dataset.clips])
    assert store.statistics == {}
    assert set(store.read(np.arange(2))) == {"visual/blocks.3"}


@pytest.mark.parametrize("residency", ["disk", "ram"])
def test_batches_carry_them(cached, residency):
    dataset, job = cached
    cache = open_cache(job.cache)
    samples = labelled(dataset, "train")
    store = FeatureStore(cache, every_tap(cache, ("visual",)), [s.clip for s in samples], residency=residency)
    batch = ClipFeatures(store, samples).batch([0])
    assert set(batch.statistics["visual"]) == set(batch.tokens["visual"]) == {"blocks.2", "blocks.3"}
    for tap, tokens in batch.tokens["visual"].items():
        np.testing.assert_array_equal(batch.statistics["visual"][tap], token_statistics(tokens.numpy()))


def test_they_go_with_tokens_of_another_clip(cached):
    dataset, job = cached
    cache = open_cache(job.cache)
    clips = [clip.id for clip in dataset.clips]
    samples = [s for split in ("train", "val", "test") for s in dataset.split(split)]
    data = ClipFeatures(FeatureStore(cache, every_tap(cache, ("visual", "audio")), clips), samples)
    givers = dict(zip(clips, [*clips[1:], clips[0]], strict=True))
    before = data.batch([0])
    after = _exchanged(data, before, {"visual": ("blocks.2",)}, givers)
    changed, kept = after.statistics["visual"]["blocks.2"], after.statistics["visual"]["blocks.3"]
    np.testing.assert_array_equal(changed, token_statistics(after.tokens["visual"]["blocks.2"].numpy()))
    assert not torch.equal(changed, before.statistics["visual"]["blocks.2"])
    assert torch.equal(kept, before.statistics["visual"]["blocks.3"])
