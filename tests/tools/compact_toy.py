"""A cache with everything that a ledger can hold, and what its compaction is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import cache_toy as toy

from avpipe.pipeline.cache.compact import Compaction, check, load
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import refuse
from avpipe.pipeline.cache.records import Record

CLIPS = toy.clips(9)
ARRAYS = (toy.FRAMES, toy.BLOCK, toy.SAMPLES)


def grow(path: Path) -> None:
    """Makes a cache with holes, a later array, a rejected clip, one that moved, and a unit that is planned only."""
    moved, torn = CLIPS[0][0], CLIPS[4][0]
    toy.extract(path, CLIPS[:7], ARRAYS[:2])
    toy.extract(path, CLIPS[:7], ARRAYS, reject={moved, torn})
    toy.extract(path, CLIPS[:7], ARRAYS, reject={torn}, retry=True)
    with toy.begin(path) as writer:
        assert writer.plan(CLIPS, ARRAYS).pending


def finish(layout: Layout) -> None:
    """Commits what is left."""
    toy.extract(layout.root, CLIPS, ARRAYS)


def told(layout: Layout) -> Ledger:
    """What the JSON documents say."""
    return Ledger(layout, compacted=False)


def records(layout: Layout) -> list[Record]:
    """All records, by unit and sequence, as the documents say."""
    ledger = told(layout)
    return [record for unit in sorted(ledger.records) for record in ledger.records[unit]]


def plan(layout: Layout) -> list[list[tuple[str, int, int]]]:
    """The clips of each unit, as the documents say."""
    documents = [json.loads(path.read_bytes()) for path in sorted(layout.plan.iterdir())]
    return [[tuple(clip) for clip in unit] for document in documents for unit in document["units"]]


def loaded(layout: Layout) -> Compaction:
    """The newest generation, which is sound."""
    compaction = load(layout, refuse)
    assert compaction is not None
    return compaction


def faults(layout: Layout) -> list[Path]:
    """Files that the check finds at fault; each message names its file."""
    found = check(layout, told(layout))
    assert all(str(path) in message for path, message in found)
    return [path for path, _ in found]


def present(layout: Layout) -> list[str]:
    """Names of the files of the compacted ledger."""
    return sorted(path.name for path in layout.compact.iterdir())


def names(*numbers: int) -> list[str]:
    """Names of the files of generations."""
    return [f"{number:08d}.{kind}" for number in numbers for kind in ("json", "plan.parquet", "records.parquet")]
