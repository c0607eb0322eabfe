"""The few operations that change files, in one place, each durable or loud.

Everything that the cache writes goes through these functions, so that the order of steps can be read, tested and
interrupted in one place. They translate what the machine refuses (no space, no permission, read-only) into
`EnvironmentLacking`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avpipe.pipeline.errors import EnvironmentLacking

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "the file system takes no file this large: use another one",
    errno.EACCES: "give yourself permission to write there, or use another --cache",
    errno.EPERM: "the file system forbids it (a cache needs hard links): use another --cache",
    errno.EROFS: "it is mounted read-only: use another --cache",
    errno.EIO: "the disk reports an error: check it",
    errno.EOPNOTSUPP: "the file system has no hard links: use another --cache",
    errno.EMLINK: "the file system has no hard links: use another --cache",
    errno.ENOLCK: "the file system has no file locks: use another --cache",
    errno.EMFILE: "allow this process more open files (ulimit -n)",
    errno.ENFILE: "allow this machine more open files",
    errno.ELOOP: "it is a symbolic link, which a cache never makes: delete it",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the machine refuses while `path` is written into `EnvironmentLacking`; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise EnvironmentLacking(
            f"cannot write {path}: {os.strerror(error.errno or 0)}. "
            f"Nothing that was committed is lost; {remedy} and run the same command again"
        ) from error


def make_folder(path: Path) -> None:
    """Makes `path` and its parents; each new name is synced into its parent."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with writing(path):
        try:
            path.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise EnvironmentLacking(
                f"cannot make the folder {path}: {path.parent} takes no new folders (it is the system's, as /proc is), "
                "or was deleted meanwhile. Name another --cache and run the same command again"
            ) from error
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power loss."""
    with writing(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(descriptor: int, path: Path) -> None:
    """Makes the bytes of an open file survive a power loss; `path` is for the message."""
    with writing(path):
        os.fsync(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Writes and syncs a whole new file. Not atomic: write to a temporary, then `rename` or `link`."""
    try:
        with writing(path), path.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileNotFoundError as error:
        raise EnvironmentLacking(
            f"cannot write {path}: its folder was deleted while this process was using it. "
            "Nothing that was committed is lost; find out what deletes there, and run the same command again"
        ) from error


def rename(source: Path, target: Path) -> None:
    """Renames within one file system, replacing `target`. The caller syncs the folder of `target`.

    Raises:
        FileNotFoundError: `source` is gone (somebody else has renamed it).
    """
    with writing(target):
        source.rename(target)


def link(source: Path, target: Path) -> bool:
    """Gives the file `source` the name `target`, unless that name is taken: the put-if-absent of a local disk.

    Returns:
        False where `target` existed already and is another file.
    """
    with writing(target):
        try:
            target.hardlink_to(source)
        except FileExistsError:
            # A network file system repeats a call whose reply was lost, and the second one finds what the first made.
            return os.path.samestat(source.lstat(), target.lstat())
    return True


def remove(path: Path) -> None:
    """Deletes a file; no error where it is gone already."""
    with writing(path), suppress(FileNotFoundError):
        path.unlink()


def link_and_remove(temporary: Path, path: Path) -> bool:
    """The second half of `put_if_absent`: gives a file that was written whole its final name, unless that is taken."""
    created = link(temporary, path)
    remove(temporary)
    sync_folder(path.parent)
    return created


def put_if_absent(path: Path, data: bytes, temporary: Path) -> bool:
    """Creates `path` with `data`, whole and synced, unless it exists.

    Args:
        path: final name.
        data: content.
        temporary: a free name on the same file system, owned by this writer.

    Returns:
        False where `path` existed already; it is left as it is.
    """
    write_file(temporary, data)
    return link_and_remove(temporary, path)


def replace(path: Path, data: bytes, temporary: Path) -> None:
    """Puts `data` at `path`, whole and synced, whatever was there: a reader sees the old or the new content."""
    write_file(temporary, data)
    rename(temporary, path)
    sync_folder(path.parent)
