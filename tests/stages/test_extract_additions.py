"""Clips, taps, a codec and the second modality are added in every order: each row is made once, the content is one."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from extracting import stub_job

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import UnitWriter
from avpipe.pipeline.cache.verify import verify
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.extract import extract

FEW, MORE = "blocks.0", "blocks.0,blocks.3"
CODECS = ("float16", "float32")
ORDERS = list(itertools.permutations(("clips", "taps", "codec", "modality")))
BOTH = ("visual", "audio")


@pytest.fixture(scope="module")
def whole(new_ave, tmp_path_factory) -> tuple[list[str], str]:
    """Ids of 4 clips, and the content hash of both modalities, two taps and two codecs of them."""
    folder = tmp_path_factory.mktemp("whole")
    made = new_ave(folder / "ave")
    made.add(4)
    dataset = load_dataset("ave", made.root)
    for codec in CODECS:
        extract(dataset, stub_job(dataset, folder / "c", *BOTH, layers=MORE, dtype=codec), unit_segments=20)
    return made.ids, open_cache(folder / "c").content_hash()


@pytest.fixture
def written(monkeypatch) -> Counter[tuple[str, str, int]]:
    """How often each row was written: clip, array, row."""
    found: Counter[tuple[str, str, int]] = Counter()
    original = UnitWriter.write

    def write(unit, array, row, value):
        found[unit._owner[row].id, array, row] += 1
        original(unit, array, row, value)

    monkeypatch.setattr(UnitWriter, "write", write)
    return found


@pytest.mark.parametrize(
    "order",
    [pytest.param(o, id="-".join(o), marks=() if i % 8 == 3 else pytest.mark.slow) for i, o in enumerate(ORDERS)],
)
def test_additions_in_any_order_make_each_row_once(whole, new_ave, tmp_path, written, order):
    ids, expected = whole
    growing = new_ave(tmp_path / "ave")  # the same clips, since a clip follows from its number
    growing.add(2)
    modalities, layers, codec = BOTH[:1], FEW, CODECS[0]
    for step in (None, *order, "the rest"):
        if step == "clips":
            growing.add(2)
        layers = MORE if step == "taps" else layers
        modalities = BOTH if step == "modality" else modalities
        codec = CODECS[1] if step == "codec" else codec
        dataset = load_dataset("ave", growing.root)
        for one in CODECS if step == "the rest" else (codec,):
            job = stub_job(dataset, tmp_path / "c", *modalities, layers=layers, dtype=one)
            assert extract(dataset, job, unit_segments=20).left == 0
    cache = open_cache(tmp_path / "c")
    assert cache.content_hash() == expected
    assert sorted(cache.clips()) == sorted(ids)
    assert set(written.values()) == {1}
    assert len(written) == 10 * len(ids) * len(cache.arrays)
    assert verify(cache.path).ok
