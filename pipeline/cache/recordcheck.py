"""Whether the files that a commit record names are where a writer would have put them.

A record is sealed against accidents, not against forgers, and its file names are used for renaming. So nothing that it
says about places is taken on trust.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.lock import LOCK_NAME
from avpipe.pipeline.cache.records import Record


def misplaced(record: Record, arrays: Mapping[str, ArraySpec], taken: Collection[str]) -> str | None:
    """What is wrong with a record's files and their places, None where nothing is.

    Args:
        record: the record.
        arrays: declared arrays by name, all of the record's among them.
        taken: arrays that earlier records of the unit have committed.
    """
    if not is_plain(record.writer):
        return f"its writer {record.writer!r} is no plain name"
    seen = set() if record.repairs else set(taken)
    for file in record.files:
        final = arrays[file.array].shard_key(record.unit)
        if file.path != final:
            return f"it puts {file.array} at {file.path!r} instead of {final!r}"
        folder, _, name = file.temporary.partition("/")
        if folder != record.writer or not is_plain(name) or name == LOCK_NAME:
            return f"its temporary {file.temporary!r} is no file of its writer {record.writer!r}"
        if record.repairs and file.array not in taken:
            return f"it repairs {file.array}, which nobody has committed"
        if file.array in seen:
            return f"it commits {file.array} again"
        seen.add(file.array)
    return None


def is_plain(name: str) -> bool:
    """Whether a name is that of one file or folder, and leads nowhere else."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")
