"""Checks of everything in a cache that is no shard: ledger documents and their twins, `zarr.json`s, strays, links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avpipe.pipeline.cache import documents, twins
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import OnFault
from avpipe.pipeline.cache.links import leads_through
from avpipe.pipeline.cache.lock import is_alive, shared


def check_twins(ledger: Ledger, on_fault: OnFault) -> None:
    """Compares every document with its twin.

    Args:
        ledger: read before; tells whose record a document is.
        on_fault: called with each twin that is missing or differs. A writer that lives may be about to write one.
    """
    layout = ledger.layout
    for path in {*twins.documents_of(layout), *twins.documents_with_twins(layout)}:
        twin = layout.twin(path)
        if (data := _content(path)) is None or _content(twin) == data:
            continue
        if not twin.exists() and _may_follow(ledger, path):
            continue
        what = f"differs from {path}" if twin.exists() else "is missing: it is the second copy of a document"
        on_fault(twin, f"{twin} {what}; `avpipe cache repair` mends it")


def _may_follow(ledger: Ledger, path: Path) -> bool:
    """Whether somebody is still at work on a document that has no twin yet."""
    layout = ledger.layout
    if path.parent == layout.records:
        unit, sequence, _ = path.name.split(".")
        records = ledger.records.get(int(unit), [])
        writers = [record.writer for record in records if record.sequence == int(sequence)]
        return any(is_alive(layout, writer) for writer in writers) and not layout.twin(path).exists()
    with shared(layout.planner_lock):  # all other documents are written under it, twins included
        return layout.twin(path).exists()


def wrong_zarr_documents(layout: Layout, links: frozenset[Path]) -> list[Path]:
    """Every `zarr.json` that is not what follows from the ledger."""
    wrong = _wrong_zarr_documents(layout, links)
    if wrong:  # a planner may be adding rows or arrays just now: look again when it is done
        with shared(layout.planner_lock):
            wrong = _wrong_zarr_documents(layout, links)
    return wrong


def _wrong_zarr_documents(layout: Layout, links: frozenset[Path]) -> list[Path]:
    ledger = Ledger(layout, on_fault=lambda path, message: None, compacted=False)
    rows = ledger.units * ledger.unit_rows
    expected = documents.expected(ledger.arrays.values(), rows=rows, unit_rows=ledger.unit_rows)
    paths = {layout.zarr_document(node): document for node, document in expected.items()}
    return sorted(
        path for path, document in paths.items() if not leads_through(path, links) and _content(path) != document
    )


def strays(layout: Layout, links: frozenset[Path]) -> list[Path]:
    """Files in the arrays' folders that belong to nothing in the ledger."""
    found = set(_array_files(layout, links))
    # Read after listing, so that it knows whatever was there by then.
    ledger = Ledger(layout, on_fault=lambda path, message: None, compacted=False)
    known = {file.path for unit in ledger.records for file in ledger.files(unit).values()}
    known |= {f"{name}/zarr.json" for name in ledger.arrays}
    return [layout.root / name for name in sorted(found - known)]


def _array_files(layout: Layout, links: frozenset[Path]) -> Iterator[str]:
    """Everything in the arrays' folders, relative to the cache; links are left out."""
    for path in layout.root.glob("*/*/*"):
        if layout.ledger not in path.parents and not leads_through(path, links):
            yield path.relative_to(layout.root).as_posix()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
