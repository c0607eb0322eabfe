"""Repair of a whole cache: documents from their twins, shards row by row, and a report of what could not be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache.compact import check, compact, tidy
from avpipe.pipeline.cache.compact_spare import spares
from avpipe.pipeline.cache.layout import MIB, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.links import find_links
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.cache.lock import try_lock
from avpipe.pipeline.cache.mending import mend_documents
from avpipe.pipeline.cache.records import CommittedClip
from avpipe.pipeline.cache.remaking import Remade, Remake, Values
from avpipe.pipeline.cache.scan import ShardScan, scan_units, wrong_sums
from avpipe.pipeline.cache.writer import CacheWriter
from avpipe.pipeline.errors import CorruptionFound, UsageError

_TRIES = 3


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
    """Repairs whatever is damaged in a cache; safe to kill and to run again, and beside extractions and readers.

    Args:
        path: folder of the cache.
        remake_for: gives the function that makes features again; called once, and only if rows are damaged.

    Raises:
        UsageError: there is no cache, it holds symbolic links, or another repair of it is running.
        CorruptionFound: a document of the ledger is lost for good.
        EnvironmentLacking: the folder cannot be written.
    """
    layout = Layout(Path(path))
    if not is_cache(layout.root):
        raise UsageError(f"{layout.root} is no cache: {layout.cache_document} is missing")
    if links := sorted(find_links(layout.root)):
        raise UsageError(f"{links[0]} is a symbolic link, which a cache never holds: delete it, then repair")
    report = RepairReport(str(layout.root))
    with one_at_a_time(layout):
        mended = mend_documents(layout, spares(layout))
        report.documents += mended.mended
        if mended.lost:
            raise CorruptionFound(
                f"{'; '.join(mended.lost)}. Put it back from a backup: without it the cache cannot be opened"
            )
        report.documents += _mend_compaction(layout)
        with CacheWriter.open(path) as writer:
            report.documents += writer.mend_zarr_documents()
            _repair_shards(layout, writer, remake_for, report)
    return report


@contextmanager
def one_at_a_time(layout: Layout) -> Iterator[None]:
    """Two repairs would each take what the other has just put back for damage; so there is one, and it is never late.

    Raises:
        UsageError: another one is running.
    """
    descriptor = try_lock(layout.repair_lock)
    if descriptor is None:
        raise UsageError(f"another repair of {layout.root} is running: wait until it is done")
    try:
        yield
    finally:
        os.close(descriptor)


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
    makers: list[Remake] = []

    def remake(clip: CommittedClip, arrays: Collection[str], raw: Values) -> Remade:
        if not makers:
            makers.append(remake_for(layout.root))
        writer.progress()
        return makers[0](clip, arrays, raw)

    with progress.task("repair", total=total / MIB, unit="MiB") as task:
        for unit, scans in scan_units(layout, ledger):
            if any(scan.faults for scan in scans):
                _repair_one(layout, writer, unit, remake, report)
            else:
                _check_content(layout, ledger, unit, scans, report)
            task.advance(sum(scan.file.bytes for scan in scans) / MIB)


def _repair_one(layout: Layout, writer: CacheWriter, unit: int, remake: Remake, report: RepairReport) -> None:
    """Repairs one unit, from a look at it that nobody has made out of date."""
    if not writer.claim(unit):
        report.failed[f"unit {unit}"] = f"{writer.holder(unit)} is working on it: repair again when that is done"
        return
    try:
        for _ in range(_TRIES):
            done = writer.rewrite(unit, remake)
            if done is not None:
                break
        else:
            report.failed[f"unit {unit}"] = "others kept committing to it: repair again when they are done"
            return
    finally:
        writer.release(unit)
    report.shards += done.shards
    report.rows += done.rows
    report.changed += done.changed
    report.failed |= done.failed


def _check_content(layout: Layout, ledger: Ledger, unit: int, scans: list[ShardScan], report: RepairReport) -> None:
    for clip in wrong_sums(ledger, unit, scans):
        report.failed[clip] = (
            f"its rows are sound, but not what {layout.record(unit, 0)} says was committed: "
            "restore the cache from a backup, or extract it anew"
        )
