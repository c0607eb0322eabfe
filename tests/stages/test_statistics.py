"""Statistics of tokens: right for what is stored, written with the taps, read with them, made again by a repair."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from extracting import stub_job

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import ArraySpec, verify
from avpipe.pipeline.cache_import import SourceRequest, import_features
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.extract import extract
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap
from avpipe.stages.repair import repair_cache
from avpipe.stages.shuffle import _exchanged
from avpipe.stages.statistics import (
    EPS,
    SUFFIX,
    is_statistics,
    statistics_name,
    statistics_spec,
    tap_of,
    token_statistics,
)
from avpipe.stages.taps import is_tap
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
    assert is_statistics(own, {each.name: each for each in (tap, own)})
    assert tap_of(own.name) == tap_of(tap.name) == tap.name


def test_a_name_alone_makes_no_statistics():
    tap = ArraySpec("audio/vggish", (9, 16), "float16")
    own = statistics_spec(tap)
    others = [replace(own, dtype="float16"), replace(own, row_shape=(9, 16)), replace(own, row_shape=(1, 2)), tap]
    for array in others:
        arrays = {each.name: each for each in (tap, array)}
        assert not is_statistics(array, arrays)
        assert is_tap(array, arrays)
    assert is_tap(own, {own.name: own})
    assert not is_tap(own, {each.name: each for each in (tap, own)})


def test_every_tap_is_stored_with_its_own(cached):
    _, job = cached
    cache = open_cache(job.cache)
    rows = cache.rows(sorted(cache.clips())[:2])
    taps = [name for name in cache.arrays if "blocks" in name and not name.endswith(SUFFIX)]
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


def test_features_that_only_have_the_name_are_not_taken_for_them(tiny_ave, tmp_path, monkeypatch):
    monkeypatch.setattr("avpipe.pipeline.cache_import.taps.STATISTICS", "refused by no version before this one")
    dataset = load_dataset("ave", tiny_ave.root)
    requests = []
    for name, shape in (("own", (3, 4)), ("own.stats", (3, 2))):
        (tmp_path / name).mkdir()
        for clip in dataset.clips:
            np.save(tmp_path / name / f"{clip.id}.npy", np.ones((clip.segments, *shape), np.float32))
        requests.append(SourceRequest("audio", name, tmp_path / name))
    import_features(dataset, tmp_path / "c", requests)
    cache = open_cache(tmp_path / "c")
    assert every_tap(cache, ("audio",)) == {"audio": ("own", "own.stats")}
    assert FeatureStore(cache, {"audio": ("own",)}, [clip.id for clip in dataset.clips]).statistics == {}


def test_a_repair_makes_them_again(cached, tmp_path):
    _, job = cached
    shutil.copytree(job.cache, tmp_path / "c")
    expected = open_cache(tmp_path / "c").content_hash()
    for array in ("visual/blocks.3.stats", "audio/blocks.2.stats"):
        next((tmp_path / "c" / array).glob("c.*")).unlink()
    assert repair_cache(tmp_path / "c", device="cpu").ok
    assert verify(tmp_path / "c").ok
    assert open_cache(tmp_path / "c").content_hash() == expected


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
    after = _exchanged(data, before, ("visual/blocks.2",), givers)
    changed, kept = after.statistics["visual"]["blocks.2"], after.statistics["visual"]["blocks.3"]
    np.testing.assert_array_equal(changed, token_statistics(after.tokens["visual"]["blocks.2"].numpy()))
    assert not torch.equal(changed, before.statistics["visual"]["blocks.2"])
    assert torch.equal(kept, before.statistics["visual"]["blocks.3"])
