"""Checks of everything in a cache that is no shard: ledger documents and their twins, `zarr.json`s, strays, links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avpipe.pipeline.cache import documents, twins
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import OnFault
from avpipe.pipeline.cache.links import leads_through
from avpipe.pipeline.cache.lock import is_alive, shared
from avpipe.pipeline.errors import CorruptionFound


def check_twins(layout: Layout, on_fault: OnFault) -> None:
    """Compares every document with its twin.

    Args:
        layout: paths of the cache.
        on_fault: called with each twin that is missing or differs. A writer that lives may be about to write one.
    """
    for path in {*twins.documents_of(layout), *twins.documents_with_twins(layout)}:
        twin, data = layout.twin(path), _content(path)
        found = _content(twin)
        if data is None or found == data or (found is None and _may_follow(layout, path, data)):
            continue
        what = f"differs from {path}" if found is not None else "is missing: it is the second copy of a document"
        on_fault(twin, f"{twin} {what}; `avpipe cache repair` mends it")


def _may_follow(layout: Layout, path: Path, data: bytes) -> bool:
    """Whether somebody is still at work on a document that had no twin, or was until just now."""
    if path.parent != layout.records:
        with shared(layout.planner_lock):  # all other documents are written under it, twins included
            return layout.twin(path).exists()
    with suppress(CorruptionFound, KeyError):
        return is_alive(layout, str(documents.unseal(data, path)["writer"])) or layout.twin(path).exists()
    return False


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


def strays(layout: Layout, links: frozenset[Path], on_fault: OnFault = lambda path, message: None) -> list[Path]:
    """Files in the arrays' folders that belong to nothing in the ledger.

    Args:
        layout: paths of the cache.
        links: symbolic links, which are not followed.
        on_fault: takes what is wrong with the ledger; where something is, a file may look like a stray and be none.
    """
    found = set(_array_files(layout, links))
    # Read after listing, so that it knows whatever was there by then.
    ledger = Ledger(layout, on_fault=on_fault, compacted=False)
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
