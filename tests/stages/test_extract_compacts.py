"""An extraction indexes the ledger of a cache of many units, and what comes later is found all the same."""

from __future__ import annotations

import extracting

from avpipe.pipeline.cache import compact, open_cache, verify
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.datasets import load_dataset
from avpipe.stages.extract import extract


def test_many_units_are_compacted_at_the_end(own_ave, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "_ENOUGH_RECORDS", 4)
    dataset, path = load_dataset("ave", own_ave.root), tmp_path / "c"
    extract(dataset, extracting.stub_job(dataset, path, "visual"), unit_segments=20)  # 3 records
    assert Ledger(Layout(path)).compaction is None
    extract(dataset, extracting.stub_job(dataset, path, "visual", "audio"))  # 3 more
    ledger = Ledger(Layout(path))
    assert ledger.compaction is not None
    assert len(ledger.compaction.names) == 6
    own_ave.add(2)
    dataset = load_dataset("ave", own_ave.root)
    extract(dataset, extracting.stub_job(dataset, path, "visual", "audio"))
    ledger = Ledger(Layout(path))
    assert len(ledger.compaction.names) == 6
    assert sum(map(len, ledger.records.values())) == 7
    assert len(open_cache(path).clips()) == 8
    assert verify(path).ok
    whole = tmp_path / "d"
    extract(dataset, extracting.stub_job(dataset, whole, "visual", "audio"), unit_segments=20)
    assert open_cache(whole).content_hash() == open_cache(path).content_hash()
