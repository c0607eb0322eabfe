"""Verification: every byte of a cache against what the ledger says. Reads only; mends nothing; follows no link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache import content, documents
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.links import find_links, leads_through
from avpipe.pipeline.cache.lock import shared
from avpipe.pipeline.cache.records import CommittedFile, Record
from avpipe.pipeline.cache.shardcheck import ShardFault, inspect_shard


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it was committed.

    Attributes:
        path: the file.
        message: what is wrong with it.
        array: the array, where it is a shard.
        unit: the unit, where it is a shard or a record.
        clip: the clip, where one is known.
        segment: the clip's segment, where one is known.
    """

    path: str
    message: str
    array: str | None = None
    unit: int | None = None
    clip: str | None = None
    segment: int | None = None


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        path: folder of the cache.
        faults: everything that is wrong; empty is good.
        records: commit records read.
        files: shard files read.
        rows: rows whose checksum was compared.
        bytes: bytes of the shard files.
    """

    path: str
    faults: tuple[Fault, ...]
    records: int
    files: int
    rows: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """JSON-ready members, with `ok`."""
        return {"ok": self.ok, **vars(self), "faults": [dict(vars(fault)) for fault in self.faults]}


def verify(path: Path | str) -> VerifyReport:
    """Checks every document, every shard file (size, hash, index, each row's checksum) and every content sum.

    Args:
        path: folder of the cache. It may be written to meanwhile: what is committed when the check begins is checked.

    Raises:
        UsageError: there is no cache.
    """
    return _Verification(Layout(Path(path))).run()


class _Verification:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.faults: list[Fault] = []
        self.files = self.rows = self.bytes = 0
        self.links = find_links(layout.root)

    def run(self) -> VerifyReport:
        for link in sorted(self.links):
            self._document_fault(link, f"{link} is a symbolic link, which no writer makes: it was not followed")
        if any(leads_through(link, frozenset([self.layout.ledger])) for link in self.links):
            return self._report(0)  # a ledger with links in it says nothing about what lies elsewhere
        ledger = Ledger(self.layout, on_fault=self._document_fault)
        records = [record for unit in sorted(ledger.records) for record in ledger.records[unit]]
        if ledger.info:  # without it nothing is known about the arrays
            sound = len(self.faults) == len(self.links)
            self._check_zarr_documents()
            if sound:  # else files may seem strange only because a record could not be read
                self._check_strays()
            self._check_records(ledger, records)
        return self._report(len(records))

    def _report(self, records: int) -> VerifyReport:
        counts = {"records": records, "files": self.files, "rows": self.rows, "bytes": self.bytes}
        return VerifyReport(path=str(self.layout.root), faults=tuple(self.faults), **counts)

    def _document_fault(self, path: Path, message: str) -> None:
        self.faults.append(Fault(str(path), message))

    def _check_zarr_documents(self) -> None:
        wrong = self._wrong_documents()
        if wrong:  # a planner may be adding rows or arrays just now: look again when it is done
            with shared(self.layout.planner_lock):
                wrong = self._wrong_documents()
        for node in sorted(wrong):
            path = self.layout.zarr_document(node)
            what = "differs from what the ledger says" if path.exists() else "is missing"
            self._document_fault(path, f"{path} {what}; the next `avpipe extract` on this cache writes it anew")

    def _wrong_documents(self) -> set[str]:
        ledger = Ledger(self.layout, on_fault=lambda path, message: None)
        rows = ledger.units * ledger.unit_rows
        expected = documents.expected(ledger.arrays.values(), rows=rows, unit_rows=ledger.unit_rows)
        paths = {node: self.layout.zarr_document(node) for node in expected}
        return {
            node
            for node, path in paths.items()
            if not leads_through(path, self.links) and _content(path) != expected[node]
        }

    def _check_strays(self) -> None:
        found = set(self._array_files())
        # Read after listing, so that it knows whatever was there by then.
        ledger = Ledger(self.layout, on_fault=lambda path, message: None)
        known = {file.path for records in ledger.records.values() for record in records for file in record.files}
        known |= {f"{name}/zarr.json" for name in ledger.arrays}
        for name in sorted(found - known):
            path = self.layout.root / name
            self._document_fault(path, f"{path} belongs to nothing in the ledger: a document of the ledger is lost")

    def _array_files(self) -> Iterator[str]:
        """Everything in the arrays' folders, relative to the cache; links have been reported."""
        for path in self.layout.root.glob("*/*/*"):
            if self.layout.ledger not in path.parents and not leads_through(path, self.links):
                yield path.relative_to(self.layout.root).as_posix()

    def _check_records(self, ledger: Ledger, records: list[Record]) -> None:
        total = sum(file.bytes for record in records for file in record.files)
        with progress.task("verify", total=total, unit="B") as task:
            for record in records:
                sums = dict.fromkeys((clip.id for clip in record.clips), 0)
                damaged = False
                for file in record.files:
                    damaged |= self._check_file(ledger, record, file, sums)
                    task.advance(file.bytes)
                if not damaged:
                    self._check_sums(record, sums)

    def _check_file(self, ledger: Ledger, record: Record, file: CommittedFile, sums: dict[str, int]) -> bool:
        if leads_through(self.layout.root / file.path, self.links):
            return True
        array = ledger.arrays[file.array]
        base = record.unit * ledger.unit_rows
        owners = {clip.start - base + s: (clip.id, s) for clip in record.clips for s in range(clip.segments)}

        def take(row: int, data: memoryview) -> None:
            clip, segment = owners[row]
            sums[clip] += content.element(clip, file.array, segment, data)
            self.rows += 1

        committed = frozenset(owners)
        faults: list[ShardFault] = inspect_shard(self.layout, file, array, ledger.unit_rows, committed, take)
        for row, message in faults:
            clip, segment = owners.get(row, (None, None)) if row is not None else (None, None)
            path = self.layout.root / file.path
            self.faults.append(Fault(str(path), message, file.array, record.unit, clip, segment))
        self.files += 1
        self.bytes += file.bytes
        return bool(faults)

    def _check_sums(self, record: Record, sums: dict[str, int]) -> None:
        path = self.layout.record(record.unit, record.sequence)
        for clip in record.clips:
            if sums[clip.id] % content.MODULUS != clip.content:
                message = f"{path}: the content of clip {clip.id!r} is not what was recorded"
                self.faults.append(Fault(str(path), message, unit=record.unit, clip=clip.id))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
