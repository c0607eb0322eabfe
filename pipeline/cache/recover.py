"""Finishing what dead writers left: committed temporaries are published, the others deleted.

Recovery looks only into the folder of temporaries. It never touches a file in its final place, and never a temporary of
a writer that lives, unless a commit record names it; then it only does what that writer is about to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import LOCK_NAME, try_lock
from avpipe.pipeline.cache.records import CommittedFile


def publish_files(layout: Layout, files: Iterable[CommittedFile]) -> None:
    """Moves committed temporaries to their final places; those that are gone have been moved already.

    Args:
        layout: paths of the cache.
        files: files that a commit record names.
    """
    files = list(files)
    if not files:
        return
    durable.sync_folder(layout.records)  # the record must outlive a power loss before anything follows from it
    for file in files:
        with suppress(FileNotFoundError):
            durable.rename(layout.temporary(file.temporary), layout.root / file.path)
    for folder in sorted({(layout.root / file.path).parent for file in files}):
        durable.sync_folder(folder)


def recover(ledger: Ledger) -> None:
    """Publishes the temporaries that records name and deletes the others of dead writers.

    Args:
        ledger: the ledger, read before; it is refreshed for every dead writer.
    """
    layout = ledger.layout
    for folder in _writer_folders(layout):
        _publish_committed(ledger, folder)
        descriptor = try_lock(folder / LOCK_NAME)
        if descriptor is None:
            continue
        try:
            # Only now is it certain that this writer commits nothing more: look at its records once again.
            ledger.refresh()
            _publish_committed(ledger, folder)
            _delete(folder)
        finally:
            os.close(descriptor)


def _writer_folders(layout: Layout) -> list[Path]:
    try:
        return sorted(path for path in layout.temporaries.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _publish_committed(ledger: Ledger, folder: Path) -> None:
    try:
        present = {f"{folder.name}/{path.name}" for path in folder.iterdir()}
    except FileNotFoundError:
        return
    if any(not name.endswith(f"/{LOCK_NAME}") for name in present):
        records = (record for unit in ledger.records.values() for record in unit if record.writer == folder.name)
        publish_files(ledger.layout, [file for record in records for file in record.files if file.temporary in present])


def _delete(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK_NAME:
            durable.remove(path)
    durable.remove(folder / LOCK_NAME)  # last, so that a folder without a lock is an empty one
    with suppress(OSError):
        folder.rmdir()
