"""Finishing what dead writers left: committed temporaries are published, the others deleted.

Recovery looks only into the folder of temporaries, and clears away the leases of the dead. It never touches a file in
its final place, and never a temporary of a writer that lives, unless a commit record names it; then it only does what
that writer is about to do. It follows no symbolic link, and leaves alone what this user may not touch: somebody else
will recover it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from avpipe.pipeline.cache import durable, twins
from avpipe.pipeline.cache.compact import tidy
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lease import remove_leases_of_the_dead
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import LOCK_NAME, WriterFolder, is_alive, try_lock_of_another
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.errors import EnvironmentLacking

_TEMPORARY = re.compile(r"\d+-(\d+)-.+")
"""Name of a shard's temporary: number, unit, array."""


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


def require_temporaries(sizes: Mapping[Path, int]) -> None:
    """Makes sure that the temporaries of a record that is about to be put are there, whole.

    Args:
        sizes: the record's temporary and those that it names, with their sizes in bytes.

    Raises:
        EnvironmentLacking: one is gone, or has another size.
    """
    for path, size in sizes.items():
        try:
            found = path.lstat().st_size
        except FileNotFoundError:
            found = None
        if found != size:
            what = "is gone" if found is None else f"has {found} bytes instead of {size}"
            raise EnvironmentLacking(
                f"{path} {what} before it could be committed: a cleaner of temporary files, or another host that took "
                "this process for dead because file locks do not reach it, has been there. Nothing of this unit was "
                "committed; keep cleaners out of the cache, share it between hosts only where flock works across "
                "them, and run the same command again"
            )


def recover(ledger: Ledger, *, if_possible: bool = False) -> None:
    """Publishes the temporaries that records name, deletes the others of dead writers, and writes missing twins.

    Args:
        ledger: the ledger, read before; it is refreshed for every dead writer.
        if_possible: leave what the machine refuses, such as where the disk is full, to somebody else: for readers,
            which find committed files under either name.

    Raises:
        EnvironmentLacking: the disk is full, say; not with `if_possible`.
    """
    for folder in _writer_folders(ledger.layout):
        with _leaving_what_is_not_ours(if_possible):
            _recover_writer(ledger, folder)
    with _leaving_what_is_not_ours(if_possible):
        _complete_twins(ledger.layout)
    with _leaving_what_is_not_ours(if_possible):
        tidy(ledger.layout)


def left_behind(ledger: Ledger) -> list[Path]:
    """Temporaries of dead writers that no record names: what `recover` would delete."""
    found = []
    for folder in _writer_folders(ledger.layout):
        if not is_alive(ledger.layout, folder.name):
            committed = {file.temporary for unit in ledger.records for file in ledger.files(unit).values()}
            names = [path for path in _plain_files(folder) if path.name != LOCK_NAME]
            found += [path for path in names if f"{folder.name}/{path.name}" not in committed]
    return found


def _recover_writer(ledger: Ledger, folder: Path) -> None:
    _publish_committed(ledger, folder)
    descriptor = try_lock_of_another(folder / LOCK_NAME)
    if descriptor is None:
        return
    try:
        # Only now is it certain that this writer commits nothing more: look at its records once again.
        ledger.refresh()
        # A network file system may list the records as they were a moment ago: ask for those that count by their names.
        for unit in _units_of(folder):
            ledger.refresh_unit(unit)
        _publish_committed(ledger, folder)
        _delete(folder)
        remove_leases_of_the_dead(ledger.layout, folder.name)
    finally:
        os.close(descriptor)


def _units_of(folder: Path) -> set[int]:
    """Units that the temporaries of a writer are of, by their names."""
    matches = (_TEMPORARY.fullmatch(path.name) for path in _plain_files(folder))
    return {int(match[1]) for match in matches if match}


def _complete_twins(layout: Layout) -> None:
    if twins.missing(layout):
        folder = WriterFolder(layout)
        try:
            twins.complete(layout, folder)
        finally:
            folder.close()


@contextmanager
def _leaving_what_is_not_ours(if_possible: bool) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        pass
    except EnvironmentLacking as error:
        if not if_possible and not isinstance(error.__cause__, PermissionError):
            raise


def _writer_folders(layout: Layout) -> list[Path]:
    if layout.ledger.is_symlink() or layout.temporaries.is_symlink():
        return []
    try:
        return sorted(path for path in layout.temporaries.iterdir() if path.is_dir() and not path.is_symlink())
    except (FileNotFoundError, PermissionError):
        return []


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]


def _publish_committed(ledger: Ledger, folder: Path) -> None:
    try:
        present = {f"{folder.name}/{path.name}" for path in _plain_files(folder) if path.name != LOCK_NAME}
    except FileNotFoundError:
        return
    if present:
        units = {r.unit for records in ledger.records.values() for r in records if r.writer == folder.name}
        # Only what is current: a file that a repair has replaced must never come back over the sound one.
        current = (file for unit in units for file in ledger.files(unit).values())
        publish_files(ledger.layout, [file for file in current if file.temporary in present])


def _delete(folder: Path) -> None:
    for path in _plain_files(folder):
        if path.name != LOCK_NAME:
            durable.remove(path)
    durable.remove(folder / LOCK_NAME)  # last, so that a folder without a lock holds nothing that is to be deleted
    with suppress(OSError):
        folder.rmdir()
