"""Puts demo data to its place whole, beside other subsets where there are any.

    build    in `.<folder>.making/<random name>`, beside the dataset's folder
    seal     it is renamed to `.<folder>.making/complete`
    publish  it becomes the dataset's folder; where that holds another subset already, it is renamed to
             `.<folder>.making/moving`, and its entries are moved there one by one

A run that is killed leaves either nothing that counts, or a sealed folder, which the next run publishes to the end.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from avpipe.pipeline.datasets.overrides import FILE_NAME, read_overrides
from avpipe.pipeline.errors import UsageError

_LOCK, _SEALED, _MOVING = ".lock", "complete", "moving"
_ATTEMPTS = 100
"""How often a lock that another process removes meanwhile is made anew."""


def is_free(out: Path) -> bool:
    """Whether nothing is at `out` but perhaps an empty folder."""
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """An empty folder on the same file system as `out` to build in; one process at a time.

    What a killed run had sealed is published first, anything else it left is cleared. The folder has a name of its own:
    a worker of a killed run that is still writing must not reach into it.

    Raises:
        UsageError: another process is at it, or something else has the name of the folder around it.
    """
    beside = out.parent / f".{out.name}.making"
    with _locked(beside):
        _finish(beside, out)
        _clear(beside)
        folder = beside / uuid.uuid4().hex
        folder.mkdir()
        yield folder
        _clear(beside, ignore_errors=True)
        _remove(beside)


def _locked(beside: Path) -> IO[str]:
    """The lock of the folder `beside`, which is made; held until it is closed."""
    for _ in range(_ATTEMPTS):
        if not _is_workshop(beside):
            raise UsageError(f"{beside} is in the way and is no unfinished demo data: move it")
        with suppress(FileNotFoundError, FileExistsError):  # removed meanwhile by the process that was done with it
            beside.mkdir(parents=True, exist_ok=True)
            if lock := _hold(beside / _LOCK):
                return lock
    raise UsageError(f"{beside / _LOCK} cannot be locked: it is removed again and again; remove {beside}")


def _hold(path: Path) -> IO[str] | None:
    """Opens and locks a file; None where another process has removed it in between: that lock keeps nobody out.

    Raises:
        UsageError: another process holds it.
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
    except BlockingIOError as error:
        lock.close()
        raise UsageError(f"another process is making demo data in {path.parent}: wait for it") from error
    lock.close()
    return None


def _is_workshop(beside: Path) -> bool:
    """Whether `beside` is empty, missing, or has the lock in it, which is made first and removed last."""
    try:
        entries = {entry.name for entry in beside.iterdir()}
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    return not entries or _LOCK in entries


def _clear(beside: Path, *, ignore_errors: bool = False) -> None:
    """Removes all but the lock."""
    for entry in beside.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=ignore_errors)
        elif entry.name != _LOCK:
            entry.unlink()


def _remove(beside: Path) -> None:
    """Removes a cleared workshop; leaves it with its lock where anything is left in it."""
    if [entry.name for entry in beside.iterdir()] == [_LOCK]:
        (beside / _LOCK).unlink()
        with suppress(OSError):  # another process may be in it already
            beside.rmdir()


def publish(folder: Path, out: Path) -> None:
    """Moves what was built in a `workshop` to `out`, and adds its record to the `avpipe.yaml` there.

    Args:
        folder: the workshop; complete, with an `avpipe.yaml` of its own.
        out: a free place, or a folder with demo data of other subsets.

    Raises:
        UsageError: something in `out` has the name of something that is to be moved there; nothing was moved.
    """
    _refuse_what_is_in_the_way(folder, out)
    folder.rename(folder.parent / _SEALED)
    _finish(folder.parent, out)


def _finish(beside: Path, out: Path) -> None:
    """Puts what is sealed in `beside` to its place; may be interrupted anywhere and called again.

    Folders are moved before the annotation files beside them, which make a dataset found, and the record comes last.
    """
    sealed, moving = beside / _SEALED, beside / _MOVING
    if sealed.exists():
        if is_free(out):
            sealed.rename(out)
            return
        sealed.rename(moving)
    if not moving.exists() or is_free(out):  # `out` was removed since, and what had been moved there with it
        return
    _refuse_what_is_in_the_way(moving, out)
    entries = [entry for entry in moving.iterdir() if entry.name != FILE_NAME]
    for entry in sorted(entries, key=lambda path: (path.is_file(), path.name)):
        entry.rename(out / entry.name)
    content, made = read_overrides(out), read_overrides(moving)
    content["demo"] = {**content.get("demo", {}), **made.get("demo", {})}
    write_yaml(beside / FILE_NAME, content)
    (beside / FILE_NAME).replace(out / FILE_NAME)
    shutil.rmtree(moving)


def _refuse_what_is_in_the_way(folder: Path, out: Path) -> None:
    """Checks that nothing in `out` has the name of something that is to be moved there."""
    made = {entry.name for entry in folder.iterdir()} - {FILE_NAME}
    if taken := sorted(made & {entry.name for entry in out.iterdir()} if out.exists() else ()):
        raise UsageError(f"{out} has {', '.join(taken)} already: remove that, or choose another folder with --out")


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Writes an `avpipe.yaml`."""
    import yaml

    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
