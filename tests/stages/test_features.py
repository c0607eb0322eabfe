import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avpipe.pipeline import open_cache
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.features import ClipFeatures, FeatureStore, every_tap, taps_of

BOTH = ("audio", "visual")


def sample(clip, segments):
    return Sample(f"s:{clip}", clip, "train", events=(0,) * segments)


@pytest.fixture
def mixed(tmp_path, fill_cache):
    """A cache of clips of 3, 5 and 2 segments whose first token's first channel is 10 * clip + segment."""
    tokens = {}
    for number, segments in enumerate((3, 5, 2)):
        code = (10 * number + np.arange(segments))[:, None, None]
        tokens[f"clip{number}"] = {
            "visual": np.broadcast_to(code, (segments, 17, 16)),
            "audio": np.broadcast_to(-code, (segments, 9, 16)),
        }
    fill_cache(tmp_path / "cache", {"name": "ave", "root": "/nowhere"}, tokens)
    return open_cache(tmp_path / "cache")


def stores(cache, clips):
    taps = every_tap(cache, BOTH)
    return tuple(FeatureStore(cache, taps, clips, residency=where) for where in ("ram", "disk"))


def test_taps_are_in_order_of_depth(mixed):
    assert taps_of(mixed, "visual") == ("blocks.9", "blocks.10")


def test_batches_pad_shorter_clips(mixed):
    samples = [sample("clip2", 2), sample("clip0", 3)]
    for store in stores(mixed, ["clip0", "clip1", "clip2"]):
        batch = ClipFeatures(store, samples).batch([0, 1])
        assert batch.tokens["visual"]["blocks.10"].shape == (2, 3, 17, 16)
        assert batch.tokens["visual"]["blocks.10"].dtype == torch.float16
        assert batch.tokens["visual"]["blocks.10"][:, :, 4, 7].tolist() == [[20, 21, 21], [0, 1, 2]]
        assert batch.tokens["audio"]["blocks.9"][:, :, 4, 7].tolist() == [[-40, -42, -42], [0, -2, -4]]
        assert batch.present.tolist() == [[True, True, False], [True, True, True]]
        assert batch.valid.equal(batch.present)


@pytest.mark.parametrize("residency", ["ram", "disk"])
def test_rows_of_clips_that_were_not_named_are_refused(mixed, residency):
    store = FeatureStore(mixed, every_tap(mixed, BOTH), ["clip0", "clip2"], residency=residency)
    sound = mixed.rows(["clip2", "clip0"])
    assert store.read(sound)["visual/blocks.10"][:, 0, 0].tolist() == [20, 21, 0, 1, 2]
    for rows in (mixed.rows(["clip0", "clip1"]), np.array([10**6]), np.array([-1])):
        with pytest.raises(UsageError, match=r"row (-?\d+) of cache .* is of no clip of this FeatureStore"):
            store.read(rows)
    empty = FeatureStore(mixed, every_tap(mixed, BOTH), [], residency=residency)
    with pytest.raises(UsageError, match="is of no clip"):
        empty.read(sound)


def test_segments_without_content_in_any_modality_are_not_valid(mixed):
    store, _ = stores(mixed, ["clip0"])
    rows = store.clips["clip0"]
    masks = {"audio": np.array([True, False, False]), "visual": np.array([False, True, False])}
    store.clips["clip0"] = replace(rows, masks=masks)
    batch = ClipFeatures(store, [sample("clip0", 3)])[0]
    assert batch.valid.tolist() == [[True, True, False]]
    assert {m: real.tolist() for m, real in batch.real.items()} == {m: [mask.tolist()] for m, mask in masks.items()}


def test_training_reads_no_segment_behind_the_last_mask(mixed):
    store, _ = stores(mixed, ["clip0", "clip1"])
    mask = Path("mask.png")
    samples = [
        Sample("first", "clip1", "train", masks=(mask, None, None, None, None)),
        Sample("hole", "clip0", "train", masks=(None, mask, None)),
        Sample("events", "clip0", "train", events=(0, 0, 0)),
    ]
    whole, short = ClipFeatures(store, samples), ClipFeatures(store, samples, labelled_only=True)
    assert whole[[0, 1]].present.shape == (2, 5)
    batch = short[[0, 1]]
    assert batch.present.tolist() == batch.valid.tolist() == [[True, False], [True, True]]
    for modality, taps in batch.tokens.items():
        for tap, values in taps.items():
            assert values[1].equal(whole[1].tokens[modality][tap][0, :2])
            assert values[0, 0].equal(whole[0].tokens[modality][tap][0, 0])
    assert short[2].present.shape == (1, 3)


def test_missing_clips_are_left_out_of_batches(mixed):
    store, _ = stores(mixed, ["clip0", "gone", "clip1"])
    data = ClipFeatures(store, [sample("clip0", 3), sample("gone", 4), sample("clip1", 5)])
    assert (len(data), data.held, data.missing) == (3, (0, 2), ("s:gone",))
    assert list(data.batches(2)) == [[0, 2]]
    with pytest.raises(UsageError, match="'gone' is not in cache"):
        data[1]
    for outside in (3, -1, [0, 3]):
        with pytest.raises(IndexError):
            data[outside]
    assert data[[2, 0]].indices == (2, 0)
    assert data[np.int64(2)].indices == (2,)


def test_shuffles_by_seed_and_epoch_and_covers_everything(mixed):
    store, _ = stores(mixed, ["clip0"])
    data = ClipFeatures(store, [sample("clip0", 3)] * 50)

    def order(**seeded):
        batches = list(data.batches(8, **seeded))
        assert [len(b) for b in batches] == [8] * 6 + [2]
        return [i for b in batches for i in b]

    first = order(seed=1, epoch=1)
    assert sorted(first) == list(range(50))
    assert order(seed=1, epoch=1) == first
    assert order(seed=1, epoch=2) != first
    assert order(seed=2, epoch=1) != first
    assert order() == list(range(50))


def test_a_pickled_copy_reads_from_the_cache(mixed):
    store, _ = stores(mixed, ["clip0", "clip1"])
    data = ClipFeatures(store, [sample("clip1", 5)])
    blob = pickle.dumps(data)
    assert len(blob) < store.row_bytes * 8 / 2  # the features of the 8 segments stay behind
    copy = pickle.loads(blob)
    for modality, taps in data[0].tokens.items():
        for tap, values in taps.items():
            assert copy[0].tokens[modality][tap].equal(values)


def test_says_what_the_cache_lacks(tmp_path, fill_cache, mixed):
    only_audio = tmp_path / "audio"
    fill_cache(only_audio, {"name": "ave"}, {"clip": {"audio": np.zeros((2, 9, 16))}})
    with pytest.raises(UsageError, match=r"no visual features \(it has: audio\).*avpipe extract --dataset ave"):
        taps_of(open_cache(only_audio), "visual")
    with pytest.raises(UsageError, match=r"no visual/blocks\.3"):
        FeatureStore(mixed, {"visual": ("blocks.3",)}, [])
    store, _ = stores(mixed, ["clip0"])
    with pytest.raises(UsageError, match=r"labels for 4 segments.*has 3"):
        ClipFeatures(store, [sample("clip0", 4)])
