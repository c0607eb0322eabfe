"""Batches: equal bits from everywhere, read ahead into a few buffers, errors that arrive, and torch's own loader."""

import threading
import time

import numpy as np
import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import CorruptionFound, UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages import feature_store
from avpipe.stages.feature_store import FeatureStore, load_staged
from avpipe.stages.features import ClipFeatures, every_tap
from avpipe.stages.loader import AHEAD, BatchReader

CPU = torch.device("cpu")
LENGTHS = (3, 5, 2, 4, 1, 5, 3, 2, 4, 5, 1, 3)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory):
    """A cache of random tokens of 12 clips of different lengths."""
    from features_toy import fill_cache

    rng = np.random.default_rng(3)
    tokens = {
        f"-clip{i}": {"visual": rng.normal(size=(n, 17, 16)), "audio": rng.normal(size=(n, 9, 16))}
        for i, n in enumerate(LENGTHS)
    }
    path = tmp_path_factory.mktemp("lengths") / "cache"
    fill_cache(path, {"name": "ave", "root": "/nowhere"}, tokens)
    return path


def features(path, residency="disk"):
    cache = open_cache(path)
    clips = [f"-clip{i}" for i in range(len(LENGTHS))]
    store = FeatureStore(cache, every_tap(cache, ("audio", "visual")), clips, residency=residency)
    return ClipFeatures(
        store, [Sample(clip, clip, "train", events=(0,) * n) for clip, n in zip(clips, LENGTHS, strict=True)]
    )


def contents(batch):
    """All that a batch holds, as plain values."""
    tokens = {(m, tap): x.numpy().tobytes() for m, taps in batch.tokens.items() for tap, x in taps.items()}
    return batch.indices, tokens, batch.present.tolist(), batch.valid.tolist()


def pointers(batch):
    return tuple(x.data_ptr() for taps in batch.tokens.values() for x in taps.values())


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_batches_are_equal_bit_for_bit_wherever_features_are(lengths):
    found = {}
    for residency in ("disk", "ram"):
        data = features(lengths, residency)
        reader = BatchReader(data.store, 4, CPU)
        order = [b for epoch in (1, 2) for b in data.batches(4, seed=0, epoch=epoch)]
        with reader.batches(data, order) as batches:
            found[residency] = [contents(batch) for batch in batches]
        assert found[residency] == [contents(data.batch(indices)) for indices in order]
        assert len(order) == 6
        assert reader.waited > 0
    assert found["disk"] == found["ram"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_the_gpu_are_equal_bit_for_bit(lengths):
    device = torch.device("cuda")
    whole = features(lengths)
    order = list(whole.batches(4, seed=0, epoch=1))
    for residency in ("disk", "ram", "gpu"):
        cache = open_cache(lengths)
        store = FeatureStore(cache, whole.store.taps, whole.store.clips, residency=residency, device=device)
        data = ClipFeatures(store, whole.samples)
        with BatchReader(store, 4, device).batches(data, order) as batches:
            for batch, indices in zip(batches, order, strict=True):
                assert batch.present.device.type == "cuda"
                assert contents(batch.to(CPU)) == contents(whole.batch(indices))


def test_features_reach_a_device_through_staging_buffers(lengths):
    store = features(lengths).store
    cache, rows = open_cache(lengths), np.arange(sum(LENGTHS))
    staging = [store.buffers(5) for _ in range(2)]  # 38 rows by fives: the last part is shorter
    loaded = load_staged(cache, rows, staging, CPU)
    for name, values in cache.read(rows, store.arrays).items():
        assert loaded[name].numpy().tobytes() == values.tobytes()


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(lengths):
    """The thread has time to read all that it may: were a buffer handed back early, this batch would change."""
    data = features(lengths)
    order = list(data.batches(2, seed=1, epoch=1)) * 2
    with BatchReader(data.store, 2, CPU).batches(data, order) as batches:
        for indices in order:
            batch = next(batches)
            time.sleep(0.03)
            assert contents(batch) == contents(data.batch(indices))


def test_gradients_are_those_of_batches_of_their_own(lengths):
    """Backward reads the tokens again: an overwritten buffer would give other gradients."""
    data = features(lengths)
    order = list(data.batches(3, seed=2, epoch=1)) * 3
    weight = torch.ones(16, requires_grad=True)

    def gradient(batch):
        loss = (batch.tokens["visual"]["blocks.10"].float() * weight).square().sum()
        time.sleep(0.01)
        return torch.autograd.grad(loss, weight)[0]

    with BatchReader(data.store, 3, CPU).batches(data, order) as batches:
        found = [gradient(batch) for batch in batches]
    for indices, gotten in zip(order, found, strict=True):
        assert gotten.equal(gradient(data.batch(indices)))


def test_a_few_buffers_serve_all_epochs(lengths):
    data = features(lengths)
    reader = BatchReader(data.store, 2, CPU)
    seen = set()
    for epoch in range(5):
        with reader.batches(data, list(data.batches(2, seed=0, epoch=epoch))) as batches:
            seen |= {pointers(batch) for batch in batches}
    assert len(seen) == AHEAD + 1


def test_reads_ahead_no_further_than_it_has_buffers(lengths, monkeypatch):
    data = features(lengths)
    asked = []
    read = FeatureStore.read
    monkeypatch.setattr(FeatureStore, "read", lambda *args, **kw: asked.append(1) or read(*args, **kw))
    with BatchReader(data.store, 1, CPU).batches(data, list(data.batches(1))) as batches:
        for number in range(1, 4):
            next(batches)
            time.sleep(0.05)
            assert len(asked) == min(number + AHEAD, len(LENGTHS))


def test_an_error_of_the_thread_arrives_with_its_message(lengths, tmp_path, fill_cache):
    tokens = {f"-clip{i}": {"visual": np.ones((3, 17, 16)), "audio": np.ones((3, 9, 16))} for i in range(40)}
    fill_cache(tmp_path / "cache", {"name": "ave"}, tokens)
    cache = open_cache(tmp_path / "cache")
    store = FeatureStore(cache, every_tap(cache, ("visual",)), list(tokens), residency="disk")
    data = ClipFeatures(store, [Sample(clip, clip, "train", events=(0,) * 3) for clip in tokens])
    shard = tmp_path / "cache" / "visual" / "blocks.9" / "c.1.0.0"
    damaged = bytearray(shard.read_bytes())
    damaged[100] ^= 1
    shard.write_bytes(damaged)
    done = []
    with BatchReader(store, 4, CPU).batches(data, list(data.batches(4))) as batches:  # noqa: SIM117
        with pytest.raises(CorruptionFound, match=r"visual/blocks\.9: shard .* is damaged"):
            done.extend(batch.indices for batch in batches)
    assert done == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15), (16, 17, 18, 19)]  # the sound unit
    assert threads() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_thread_ends_when_the_loop_is_left(lengths, error):
    data = features(lengths)
    reader = BatchReader(data.store, 2, CPU)
    for taken in (0, 1, 3):
        with pytest.raises(error), reader.batches(data, list(data.batches(2))) as batches:  # noqa: PT012
            for _ in range(taken):
                next(batches)
            assert len(threads()) <= 1
            raise error
        assert threads() == []
    with reader.batches(data, [[0], [1]]) as batches:  # and it works again
        assert [batch.indices for batch in batches] == [(0,), (1,)]


@pytest.mark.parametrize("residency", ["disk", "ram"])
def test_one_block_of_a_reader_at_a_time(lengths, residency):
    """Both would be given the same buffers."""
    data = features(lengths, residency)
    reader = BatchReader(data.store, 1, CPU)
    with reader.batches(data, [[0], [1]]) as batches:
        with pytest.raises(UsageError, match="another BatchReader"), reader.batches(data, [[2]]):
            pass
        assert [batch.indices for batch in batches] == [(0,), (1,)]
    with reader.batches(data, [[2]]) as batches:
        assert [batch.indices for batch in batches] == [(2,)]


def test_loading_checks_every_row(lengths, monkeypatch):
    """Memory is filled through the reader's own checks, in parts, into the memory that is kept."""
    parts = []
    monkeypatch.setattr(feature_store, "ROWS_AT_ONCE", 10)
    cache = open_cache(lengths)
    read = cache.read
    monkeypatch.setattr(cache, "read", lambda rows, taps, out: parts.append((len(rows), out)) or read(rows, taps, out))
    taps = every_tap(cache, ("visual",))
    store = FeatureStore(cache, taps, [f"-clip{i}" for i in range(len(LENGTHS))], residency="ram")
    assert [count for count, _ in parts] == [10, 10, 10, 8]
    assert np.shares_memory(parts[1][1]["visual/blocks.9"], store._memory["visual/blocks.9"].numpy())


def test_workers_of_a_torch_loader_give_the_same_batches_in_the_same_order(lengths):
    data = features(lengths)
    order = list(data.batches(3, seed=4, epoch=2))
    loader = torch.utils.data.DataLoader(
        data, sampler=order, batch_size=None, num_workers=2, multiprocessing_context="spawn"
    )
    assert [contents(batch) for batch in loader] == [contents(data.batch(indices)) for indices in order]
