"""Orders of training: what a block shuffle mixes, what it costs, and when `auto` takes it."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

from avpipe.pipeline import progress
from avpipe.pipeline.cache import Cache
from avpipe.pipeline.errors import UsageError
from avpipe.stages import runs
from avpipe.stages.order import block_order, digest, full_order, quality_in_words, shuffle_quality, units_met
from avpipe.stages.train import TrainOptions, train

HELD = list(range(3, 203))
UNITS = [place // 10 for place in HELD]  # 21 units
SMALL = ("width=16", "rank=16", "heads=4", "meta_tokens=2", "epochs=2")


def test_a_block_shuffle_mixes_a_few_units_at_a_time():
    order = block_order(HELD, UNITS, 4, seed=0, epoch=1)
    assert sorted(order) == HELD
    units = [place // 10 for place in order.tolist()]
    blocks = []
    for unit in dict.fromkeys(units):  # in the order in which they come
        if not blocks or len(blocks[-1]) == 4:
            blocks.append([])
        blocks[-1].append(unit)
    done = 0
    for block in blocks:
        size = sum(UNITS.count(unit) for unit in block)
        assert set(units[done : done + size]) == set(block)  # nothing of another unit in between
        done += size
    assert sorted(chain.from_iterable(blocks)) == list(range(21))
    assert list(chain.from_iterable(blocks)) != list(range(21))
    first = order[: sum(UNITS.count(unit) for unit in blocks[0])]
    assert list(first) != sorted(first)


def test_it_follows_from_seed_and_epoch():
    def order(**seeded):
        return block_order(HELD, UNITS, 4, **seeded).tolist()

    assert order(seed=1, epoch=1) == order(seed=1, epoch=1)
    assert order(seed=1, epoch=1) != order(seed=1, epoch=2)
    assert order(seed=1, epoch=1) != order(seed=2, epoch=1)
    assert block_order([], [], 4, 0, 1).tolist() == []


def test_the_digest_tells_orders_apart():
    batches = [["a", "b"], ["c"]]
    assert digest(batches) == digest([["a", "b"], ["c"]])
    others = [[["b", "a"], ["c"]], [["a", "b", "c"]], [["a"], ["b", "c"]], [["a", "b"]], [["ab"], ["c"]]]
    assert len({digest(batches), *map(digest, others)}) == 6


def test_its_quality_is_that_of_the_very_order():
    unit_of = dict(zip(HELD, UNITS, strict=True))
    assert units_met(np.array([3, 4, 13, 14, 23, 33, 43]), unit_of, 4) == pytest.approx((2 + 3) / 2)
    met, full = zip(*(shuffle_quality(HELD, UNITS, block, 8, seed=0, epoch=1) for block in (1, 2, 8, 21)), strict=True)
    assert met[0] < 2.1  # one unit, where a batch does not lie across two
    assert met[0] < met[1] < met[2] < met[3]
    assert met[3] == pytest.approx(full[3], rel=0.1)  # all units at once are a full shuffle
    assert full[0] == units_met(full_order(HELD, 0, 1), unit_of, 8)
    said = quality_in_words(HELD, UNITS, 2, 8, 0)
    assert said.startswith("block shuffle, 2 units at a time: a batch of 8 meets ")
    assert f"quality {met[1] / full[1]:.2f} (1 is as good as full)" in said


@pytest.fixture
def said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def losses(run):
    return [json.loads(line)["loss"] for line in (run / runs.STEPS).read_text().splitlines()]


def test_a_run_trains_in_blocks_and_says_how_well_they_mix(toy_events, said):
    def run(name, *settings, **others):
        return train(TrainOptions(cache=toy_events.cache, run=Path(name), overrides=(*SMALL, *settings), **others))

    blocks, again = (run(n, "shuffle=block", "block_units=1", residency=r) for n, r in (("a", "ram"), ("b", "disk")))
    assert losses(blocks) == losses(again) != losses(run("c"))
    line = next(line for line in said if line.startswith("block shuffle, 1 units at a time"))
    assert 0.3 < float(line.split("quality ")[1].split()[0]) < 0.9
    assert yaml.safe_load((blocks / runs.CONFIG).read_text())["train"]["shuffle"] == "block"


@pytest.mark.parametrize(
    ("access", "residency", "shuffle"),
    [("pread", "disk", "block"), ("pread", "ram", "full"), ("mmap", "disk", "full")],
)
def test_auto_is_block_for_batches_from_a_network_disk(toy_events, said, monkeypatch, access, residency, shuffle):
    monkeypatch.setattr(Cache, "access", access)
    options = TrainOptions(
        cache=toy_events.cache, run=Path("run"), overrides=(*SMALL, "shuffle=auto"), residency=residency
    )
    train(options)
    assert yaml.safe_load(Path("run", runs.CONFIG).read_text())["train"]["shuffle"] == shuffle
    assert any(line.startswith(f"shuffle: {shuffle}: batches are ") for line in said)


def test_unknown_shuffles_are_refused(toy_events, said):
    with pytest.raises(UsageError, match="unknown shuffle 'blocks': did you mean 'block'"):
        train(TrainOptions(cache=toy_events.cache, overrides=("shuffle=blocks",)))
    with pytest.raises(UsageError, match="block_units=0 must be at least 1"):
        train(TrainOptions(cache=toy_events.cache, overrides=("block_units=0",)))
