"""`quarantine.parquet`: what the ledger says of quarantined clips, as a table for other programs.

It is written anew at the end of whatever may have changed it, and is no part of what a cache must hold: a cache without
it, or with an old one, is sound. Where nothing is quarantined there is none.

pyarrow is imported inside the functions: most caches never need it, and importing it takes 0.2 s.
"""

from __future__ import annotations

import csv
import errno
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder, exclusive
from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.quarantine import Entry, entries_of, readable

COLUMNS = {
    "clip": "the clip's id",
    "dataset": "name of the dataset that the cache was begun with",
    "stage": "where it failed",
    "kind": "the reason without names and numbers, to group by",
    "reason": "what is wrong",
    "hint": "what to do",
    "attempts": "how often it has failed",
    "first_failed": "when it failed first, UTC",
    "last_failed": "when it failed last, UTC",
    "unit": "the unit of the cache that it failed in last",
    "files": "its media files, relative to the dataset's folder where they lie in it",
    "versions": "decoders that were installed, and their versions",
}
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM)


def listed(ledger: Ledger, dataset: Dataset | None = None) -> list[Entry]:
    """What is quarantined, with the files that the dataset gives, or else the table that is there.

    Args:
        ledger: the ledger, fresh.
        dataset: the dataset, where it was read.
    """
    files: Mapping[str, Sequence[str]] = {}
    if quarantined := ledger.quarantined():
        files = _known_files(ledger) | (_files_of(dataset, {word.clip for word in quarantined}) if dataset else {})
    return entries_of(ledger, str(ledger.info.get("dataset", {}).get("name", "")), files)


def keep(ledger: Ledger, dataset: Dataset | None = None) -> None:
    """Makes the table what the ledger says, if it is not. A cache that cannot be written keeps the one that it has.

    Args:
        ledger: the ledger; it is refreshed.
        dataset: the dataset, where it was read.
    """
    path = ledger.layout.quarantine_table
    try:
        if _is_up_to_date(ledger, listed(ledger, dataset)):
            return
        with exclusive(ledger.layout.planner_lock):  # whoever comes last has seen what all others have committed
            ledger.refresh()
            _write(ledger, listed(ledger, dataset))
    except (EnvironmentLacking, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _NOT_OURS:
            progress.say(f"{path} could not be written ({error}); `avpipe quarantine ls` says the same")


def as_parquet(entries: Sequence[Entry]) -> bytes:
    """A Parquet file with a row for each entry; see `COLUMNS`."""
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(_table(entries), stream)
    return stream.getvalue()


def as_csv(entries: Sequence[Entry]) -> str:
    """The same as CSV: files separated by `;`, versions as `decord=0.6.0;pyav=...`."""
    stream = io.StringIO()
    rows = csv.DictWriter(stream, list(COLUMNS), lineterminator="\n")
    rows.writeheader()
    for entry in entries:
        row = readable(entry.as_json())
        versions = ";".join(f"{name}={value}" for name, value in row["versions"].items())
        rows.writerow(row | {"files": ";".join(row["files"]), "versions": versions})
    return stream.getvalue()


def _table(entries: Sequence[Entry]) -> Any:
    import pyarrow as pa

    text, time = pa.string(), pa.timestamp("us", "UTC")
    types = {"attempts": pa.int32(), "unit": pa.int64(), "first_failed": time, "last_failed": time}
    types |= {"files": pa.list_(text), "versions": pa.map_(text, text)}
    rows = [
        {**row, "first_failed": e.first_failed, "last_failed": e.last_failed, "versions": list(row["versions"].items())}
        for row, e in zip(readable([entry.as_json() for entry in entries]), entries, strict=True)
    ]
    return pa.Table.from_pylist(rows, pa.schema({name: types.get(name, text) for name in COLUMNS}))


def _write(ledger: Ledger, entries: Sequence[Entry]) -> None:
    path = ledger.layout.quarantine_table
    if not entries:
        durable.remove(path)
        durable.sync_folder(path.parent)
        return
    folder = WriterFolder(ledger.layout)
    temporary = folder.fresh(path.name)
    try:
        durable.replace(path, as_parquet(entries), temporary)
    finally:
        durable.remove(temporary)
        folder.close()


def _is_up_to_date(ledger: Ledger, entries: Sequence[Entry]) -> bool:
    path = ledger.layout.quarantine_table
    if not entries:
        return not path.is_file()
    found = _read(path)
    return found is not None and found.equals(_table(entries))


def _read(path: Path) -> Any:
    """The table that is there; None where there is none that can be read."""
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # without threads: where some of pyarrow's are left when Python ends, it aborts now and then
        return pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
    except (pa.ArrowException, OSError):
        return None


def _known_files(ledger: Ledger) -> dict[str, Sequence[str]]:
    """Files by clip, from the table that is there."""
    found = _read(ledger.layout.quarantine_table)
    if found is None or found.schema != _table([]).schema:
        return {}
    known = {row["clip"]: row["files"] for row in found.select(["clip", "files"]).to_pylist()}
    return {word.clip: known.get(readable(word.clip), ()) for word in ledger.quarantined()}


def _files_of(dataset: Dataset, clips: set[str]) -> dict[str, Sequence[str]]:
    """Media files of some clips, relative to the dataset's folder where they lie in it."""
    root = dataset.root.absolute()
    return {
        clip.id: [
            str(path.relative_to(root) if path.is_relative_to(root) else path) for path in clip.absolute().media()
        ]
        for clip in dataset.clips
        if clip.id in clips
    }
