"""Compaction: all records and plans in two Parquet files, so that a cache of many units opens without reading each one.

The JSON documents stay: their names are what keeps two writers from committing a unit twice. A *generation* is an index
of what they said when it was made, and a further copy of it. It exists once its own sealed document does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import xxhash

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.compact_check import check
from avpipe.pipeline.cache.compact_decode import decode_records
from avpipe.pipeline.cache.compact_encode import encode_plan, encode_records
from avpipe.pipeline.cache.documents import seal
from avpipe.pipeline.cache.generations import (
    MISFITS,
    Compaction,
    document,
    existing,
    is_sound,
    listed,
    load,
    names_of,
    parquet_files,
    unfinished,
)
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lock import WriterFolder, try_lock, try_lock_of_another
from avpipe.pipeline.cache.records import Record

if TYPE_CHECKING:
    from avpipe.pipeline.cache.ledger import Ledger

__all__ = ["Compaction", "check", "compact", "load", "tidy", "wanted"]

_ENOUGH_RECORDS = 256
_ENOUGH_SHARE = 0.1


def wanted(ledger: Ledger, compaction: Compaction | None) -> bool:
    """Whether compacting is worth it: many records are not covered, and a tenth of all, so that it costs little in sum.

    Args:
        ledger: the ledger, fresh.
        compaction: the newest generation.
    """
    total = sum(len(records) for records in ledger.records.values())
    new = total - (len(compaction.records) if compaction else 0)
    return new >= max(_ENOUGH_RECORDS, _ENOUGH_SHARE * total)


def compact(layout: Layout, ledger: Ledger) -> bool:
    """Writes a new generation if the ledger holds anything that the newest one lacks, and deletes what is out of date.

    The generation before it stays for readers that have just found it; so do all JSON documents. Records whose values
    do not survive the way through Parquet, which no writer of ours makes, are left to their JSON documents.

    Args:
        layout: paths of the cache.
        ledger: its ledger, read without faults; it is refreshed.

    Returns:
        False where there was nothing new, or somebody else is at it.

    Raises:
        EnvironmentLacking: no space, no permission.
    """
    durable.make_folder(layout.compact)
    descriptor = try_lock(layout.compact_lock)
    if descriptor is None:
        return False
    try:
        ledger.refresh()
        before = load(layout, lambda path, message: None)
        with closing(WriterFolder(layout)) as folder:
            made = _make(layout, ledger, before, folder)
        _delete_old(layout)
        return made
    finally:
        os.close(descriptor)


def tidy(layout: Layout) -> None:
    """Deletes Parquet files that a compaction left when it died before it put their document.

    Args:
        layout: paths of the cache.
    """
    if not unfinished(layout):
        return
    descriptor = try_lock_of_another(layout.compact_lock)
    if descriptor is not None:
        try:
            for path in unfinished(layout):
                durable.remove(path)
        finally:
            os.close(descriptor)


def _make(layout: Layout, ledger: Ledger, before: Compaction | None, folder: WriterFolder) -> bool:
    records = [record for unit in sorted(ledger.records) for record in ledger.records[unit]]
    plan = [[(clip, *place) for clip, place in ledger.planned[unit].items()] for unit in sorted(ledger.planned)]
    if sorted(ledger.planned) != list(range(len(plan))) or not _adds(layout, records, len(plan), before):
        return False
    data = _faithful(records)
    if data is None:
        records = _without_gaps(_storable(records))
        data = _faithful(records) if _adds(layout, records, len(plan), before) else None
    try:
        parts = data, encode_plan(plan)
    except MISFITS:
        return False
    number, files = max(listed(layout), default=0) + 1, []
    for path, part in zip(parquet_files(layout, number), parts, strict=True):
        if part is None or not durable.put_if_absent(path, part, folder.fresh(path.name)):
            return False
        files.append({"name": path.name, "bytes": len(part), "xxh3_128": xxhash.xxh3_128_hexdigest(part)})
    path = document(layout, number)
    content = {"generation": number, "records": len(records), "units": len(plan), "files": files}
    return durable.put_if_absent(path, seal(content), folder.fresh(path.name))


def _adds(layout: Layout, records: Sequence[Record], units: int, before: Compaction | None) -> bool:
    """Whether this is all that the generation before knows, and more; it may know what has been damaged since."""
    if before is None:
        return bool(records or units)
    names = names_of(layout, records)
    more = names != before.names or units != len(before.plan)
    return more and names >= before.names and units >= len(before.plan)


def _faithful(records: Sequence[Record]) -> bytes | None:
    """The records as Parquet, None where they would not come back as they were."""
    try:
        data = encode_records(records)
        same = all(back == record for back, record in zip(decode_records(data), records, strict=True))
    except MISFITS:
        return None
    return data if same else None


def _storable(records: Sequence[Record]) -> list[Record]:
    """The records that would come back as they were."""
    if _faithful(records) is not None:
        return list(records)
    half = len(records) // 2
    return _storable(records[:half]) + _storable(records[half:]) if half else []


def _without_gaps(records: Sequence[Record]) -> list[Record]:
    seen: Counter[int] = Counter()
    kept = []
    for record in records:
        if record.sequence == seen[record.unit]:
            seen[record.unit] += 1
            kept.append(record)
    return kept


def _delete_old(layout: Layout) -> None:
    """Deletes all but the two newest sound generations. The lock is held."""
    sound = [number for number in existing(layout) if is_sound(layout, number)][-2:]
    for number, paths in listed(layout).items():
        if number not in sound:
            for path in sorted(paths, key=lambda path: path.suffix != ".json"):  # the document first
                durable.remove(path)
            durable.sync_folder(layout.compact)
