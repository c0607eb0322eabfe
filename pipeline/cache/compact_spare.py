"""The ledger's documents as the compacted ledger remembers them: the last copy of one that is lost with its twin."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.cache.documents import seal
from avpipe.pipeline.cache.generations import Compaction, load
from avpipe.pipeline.cache.layout import Layout


def spares(layout: Layout) -> dict[Path, bytes]:
    """Every record and plan document that the newest sound generation knows, by its path; none where there is none.

    Args:
        layout: paths of the cache.
    """
    compaction = load(layout, lambda path, message: None)
    return _documents(layout, compaction) if compaction else {}


def _documents(layout: Layout, compaction: Compaction) -> dict[Path, bytes]:
    records = {layout.record(r.unit, r.sequence): seal(r.as_json()) for r in compaction.records}
    return records | _plans(layout, compaction)


def _plans(layout: Layout, compaction: Compaction) -> dict[Path, bytes]:
    """Plan documents; where each of them began is known from the names of the documents and of their twins."""
    names = {path.stem for folder in (layout.plan, layout.twins / "plan") for path in folder.glob("*.json")}
    firsts = sorted({0, *(int(name) for name in names if name.isdigit())})
    ends = [*firsts[1:], len(compaction.plan)]
    found = {}
    for first, end in zip(firsts, ends, strict=True):
        units = [[list(clip) for clip in unit] for unit in compaction.plan[first:end]]
        if end <= len(compaction.plan) and units:
            found[layout.plan_document(first)] = seal({"first_unit": first, "units": units})
    return found
