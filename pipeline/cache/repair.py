"""Repair of a whole cache: documents from their twins, shards row by row, and a report of what could not be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache.compact import check, compact, tidy
from avpipe.pipeline.cache.compact_spare import spares
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.links import find_links
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.cache.mending import mend_documents
from avpipe.pipeline.cache.rewrite import Remake, UnitDamage, damaged_units
from avpipe.pipeline.cache.writer import CacheWriter
from avpipe.pipeline.errors import CorruptionFound, UsageError


@dataclass
class RepairReport:
    """What a repair did.

    Attributes:
        path: folder of the cache.
        documents: documents and twins that were put back.
        shards: shard files that were replaced, relative to the cache.
        rows: rows that were made again.
        changed: clips whose new rows are not the bytes that were lost (another machine, other versions); the cache's
            content hash says so too.
        failed: what could not be repaired: clip or file -> reason.
    """

    path: str
    documents: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    rows: int = 0
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is left to repair."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """JSON-ready members, with `ok`."""
        return {"ok": self.ok, **vars(self)}


def repair(path: Path | str, remake_for: Callable[[Path], Remake]) -> RepairReport:
    """Repairs whatever is damaged in a cache; safe to kill and to run again.

    Args:
        path: folder of the cache.
        remake_for: gives the function that makes features again; called once, and only if rows are damaged.

    Raises:
        UsageError: there is no cache, or it holds symbolic links.
        CorruptionFound: a document of the ledger is lost for good.
        EnvironmentLacking: the folder cannot be written.
    """
    layout = Layout(Path(path))
    if not is_cache(layout.root):
        raise UsageError(f"{layout.root} is no cache: {layout.cache_document} is missing")
    if links := sorted(find_links(layout.root)):
        raise UsageError(f"{links[0]} is a symbolic link, which a cache never holds: delete it, then repair")
    report = RepairReport(str(layout.root))
    mended = mend_documents(layout, spares(layout))
    report.documents += mended.mended
    if mended.lost:
        raise CorruptionFound(
            f"{'; '.join(mended.lost)}. Put it back from a backup of the cache; without it the cache cannot be opened"
        )
    report.documents += _mend_compaction(layout)
    with CacheWriter.open(path) as writer:
        report.documents += writer.mend_zarr_documents()
        _repair_shards(layout, writer, remake_for, report)
    return report


def _mend_compaction(layout: Layout) -> list[str]:
    """Makes the compacted ledger anew where it is damaged."""
    ledger = Ledger(layout, compacted=False)
    faults = check(layout, ledger)
    if faults:
        tidy(layout)
        compact(layout, ledger)
    return [str(path) for path, _ in faults]


def _repair_shards(
    layout: Layout, writer: CacheWriter, remake_for: Callable[[Path], Remake], report: RepairReport
) -> None:
    ledger = Ledger(layout)
    total = sum(file.bytes for unit in ledger.records for file in ledger.files(unit).values())
    remake: Remake | None = None
    with progress.task("repair", total=total, unit="B") as task:
        for damage in damaged_units(layout, ledger):
            if damage.broken:
                if remake is None and damage.clips:
                    remake = remake_for(layout.root)
                _repair_one(writer, damage, remake, report)
            task.advance(sum(scan.file.bytes for scan in damage.scans))


def _repair_one(writer: CacheWriter, damage: UnitDamage, remake: Remake | None, report: RepairReport) -> None:
    if not writer.claim(damage.unit):
        report.failed[f"unit {damage.unit}"] = "another process is working on it: repair again when it is done"
        return
    try:
        done = writer.rewrite(damage, remake)
    finally:
        writer.release(damage.unit)
    if done is None:
        report.failed[f"unit {damage.unit}"] = "another process has just committed to it: repair again"
        return
    report.shards += done.shards
    report.rows += done.rows
    report.changed += done.changed
    report.failed |= done.failed
