"""Files beside the SHA-256 that `sha256sums.txt` or a table of the user's own names for them."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from avpipe.pipeline import progress
from avpipe.pipeline.datasets.check.rows import TableRows
from avpipe.pipeline.datasets.checksums import FILE_NAME, absolute, read_checksums
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.checksums import differs, sha256_of

_MOST_THREADS = 8


def wrong_sums(dataset: Dataset, missing: Collection[str], rows: TableRows) -> Iterator[Finding]:
    """A fault for every listed file that holds something else or is not there. Every byte of the others is read.

    Args:
        dataset: the dataset.
        missing: files, as findings name them, that are reported already.
        rows: of the user's own table, any: those are named that give the checksum.
    """
    clips: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for clip in dataset.clips:
        for pair in clip.sha256:
            clips[pair].append(clip.id)
    media = {absolute(path) for path, _ in clips}
    base, listed = absolute(dataset.root), read_checksums(dataset.root)[0]
    others = [(dataset.root / os.path.relpath(file, base), d) for file, d in listed.items() if file not in media]
    known = [(path, digest) for path, digest in (*clips, *others) if str(path) not in missing]
    if not known:
        return
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with progress.task("checksums", len(known), "files") as shown, ThreadPoolExecutor(threads) as pool:
        for pair, fault in zip(known, pool.map(_fault, *zip(*known, strict=True)), strict=True):
            shown.advance()
            if fault:
                kind, where, what = fault
                yield Finding(kind, where, what + rows.of(pair[0], clips.get(pair, ())), _consequence(clips.get(pair)))


def _consequence(clips: Sequence[str] | None) -> str:
    if not clips:
        return ""
    return f"extraction quarantines clip {clips[0]!r}" + (f" and {len(clips) - 1} more" if len(clips) > 1 else "")


def _fault(path: Path, digest: str) -> tuple[str, str, str] | None:
    """Kind, place and what is wrong with a file; None where nothing is."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # which may have no end
            return "unreadable", str(path), "no regular file but a named pipe, a device or a socket"
        found = _hash(path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        return "missing-file", str(path), f"{FILE_NAME} lists it, and it is not there"
    except OSError as error:
        return "unreadable", str(path), (error.strerror or str(error)).lower()
    return None if found == digest else ("checksum", str(path), differs(found, digest))


@cache
def _hash(path: Path, size_bytes: int, modified_ns: int) -> str:
    """The file's hash, once for all subsets of one folder."""
    return sha256_of(path)
