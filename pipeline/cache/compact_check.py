"""Whether the compacted ledger is whole, and says what the JSON documents say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.cache.generations import (
    REMEDY,
    Compaction,
    collector,
    document,
    existing,
    listed,
    parquet_files,
    read,
)
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lock import is_held

if TYPE_CHECKING:
    from avpipe.pipeline.cache.ledger import Ledger


def check(layout: Layout, ledger: Ledger) -> list[tuple[Path, str]]:
    """Everything that is wrong with the compacted ledger. Changes nothing.

    Args:
        layout: paths of the cache.
        ledger: its ledger as the JSON documents alone tell it.

    Returns:
        The file at fault and a message, for each fault.
    """
    faults: list[tuple[Path, str]] = []
    before = _strays(layout)
    for number in existing(layout):
        found: list[tuple[Path, str]] = []
        compaction = read(layout, number, collector(found))
        if compaction:
            found = list(_differences(layout, ledger, compaction))
        if document(layout, number).exists():  # else it was replaced and deleted while it was read
            faults += found
    if before and not is_held(layout.compact_lock):
        # Whoever made or deleted them may have finished before the lock was looked at: look again.
        lost = [path for path in _strays(layout) if path in before]
        faults += [(path, f"{path} belongs to no sealed document of the compacted ledger; {REMEDY}") for path in lost]
    return faults


def _differences(layout: Layout, ledger: Ledger, compaction: Compaction) -> Iterator[tuple[Path, str]]:
    """What a sound generation says that the ledger does not."""
    records_file, plan_file = parquet_files(layout, compaction.generation)
    told = {(record.unit, record.sequence): record for records in ledger.records.values() for record in records}
    for record in compaction.records:
        path = layout.record(record.unit, record.sequence)
        known = told.get((record.unit, record.sequence))
        if known is None and not path.exists():  # else it is damaged, or newer than the ledger that was read
            yield path, f"{path} is missing, yet {records_file} has its content"
        if known is not None and known != record:
            yield records_file, f"{records_file} says something else than {path}"
    for unit, clips in enumerate(compaction.plan):
        planned = ledger.planned.get(unit)
        if planned is not None and list(clips) != [(clip, *place) for clip, place in planned.items()]:
            yield plan_file, f"{plan_file} places other clips in unit {unit} than {layout.plan} does"


def _strays(layout: Layout) -> list[Path]:
    """What has no place in the folder: Parquet files without their document, and anything else."""
    files = {path for number in existing(layout) for path in listed(layout).get(number, ())}
    return sorted(path for path in layout.compact.glob("*") if path not in files)
