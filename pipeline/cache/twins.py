"""Second copies of the ledger's documents, so that no single damaged or lost file of the ledger costs anything.

Features can be made again; what the ledger says cannot. Every sealed document therefore has a *twin*, a file of the
same bytes below `ledger/twins`. The document itself decides, and is written first; the twin is for `cache repair`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.documents import unseal
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.errors import CorruptionFound

if TYPE_CHECKING:
    from avpipe.pipeline.cache.lock import WriterFolder


def documents_of(layout: Layout) -> list[Path]:
    """Every sealed document that is there, by path."""
    return sorted(_documents(layout.ledger))


def documents_with_twins(layout: Layout) -> list[Path]:
    """Places of the documents whose twin is there, by path, whether or not the document is."""
    return sorted(layout.ledger / twin.relative_to(layout.twins) for twin in _documents(layout.twins))


def missing(layout: Layout) -> list[Path]:
    """Documents without a twin, such as a record whose writer died right after its commit."""
    return sorted({*documents_of(layout)} - {*documents_with_twins(layout)})


def complete(layout: Layout, folder: WriterFolder) -> None:
    """Writes the twins that are missing; damaged documents get none.

    Args:
        layout: paths of the cache.
        folder: the writer's temporaries.
    """
    for path in missing(layout):
        data = path.read_bytes()
        with suppress(CorruptionFound):
            unseal(data, path)
            write(layout, path, data, folder)


def write(layout: Layout, path: Path, data: bytes, folder: WriterFolder) -> None:
    """Puts the twin of a document, whole and synced; whoever else does so writes the same bytes.

    Args:
        layout: paths of the cache.
        path: the document.
        data: its bytes.
        folder: the writer's temporaries.
    """
    twin = layout.twin(path)
    durable.make_folder(twin.parent)
    durable.replace(twin, data, folder.fresh("twin.json"))


def _documents(root: Path) -> Iterable[Path]:
    yield from (path for path in (root / "cache.json",) if path.exists())
    yield from root.glob("spec-*.json")
    for name in ("arrays", "plan", "records"):
        yield from (root / name).glob("*.json")
