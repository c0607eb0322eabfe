"""Verification: every byte of a cache against what the ledger says. Reads only; mends nothing; follows no link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache.compact_check import check as check_compaction
from avpipe.pipeline.cache.documentcheck import check_twins, strays, wrong_zarr_documents
from avpipe.pipeline.cache.layout import MIB, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.links import find_links, leads_through
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.scan import ShardScan, scan_shard, scan_units, wrong_sums


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
        self.faults: dict[str, list[Fault]] = {}
        self.files = self.rows = self.bytes = 0
        self.links = find_links(layout.root)

    def run(self) -> VerifyReport:
        for link in sorted(self.links):
            self._document_fault(link, f"{link} is a symbolic link, which no writer makes: it was not followed")
        if any(leads_through(link, frozenset([self.layout.ledger])) for link in self.links):
            return self._report(0)  # a ledger with links in it says nothing about what lies elsewhere
        ledger = Ledger(self.layout, on_fault=self._document_fault, compacted=False)
        if ledger.info:  # without it nothing is known about the arrays
            check_twins(self.layout, self._document_fault)
            for path, message in check_compaction(self.layout, ledger):
                self._document_fault(path, message)
            if len(self.faults) == len(self.links):  # else files may seem strange only because a record is lost
                self._check_strays(ledger)
            self._check_zarr_documents()
            self._check_shards(ledger)
        return self._report(sum(map(len, ledger.records.values())))

    def _report(self, records: int) -> VerifyReport:
        counts = {"records": records, "files": self.files, "rows": self.rows, "bytes": self.bytes}
        faults = tuple(fault for found in self.faults.values() for fault in found)
        return VerifyReport(path=str(self.layout.root), faults=faults, **counts)

    def _fault(self, fault: Fault) -> None:
        self.faults.setdefault(fault.path, []).append(fault)

    def _document_fault(self, path: Path, message: str) -> None:
        if str(path) not in self.faults:  # one document, one fault, however many notice it
            self._fault(Fault(str(path), message))

    def _check_zarr_documents(self) -> None:
        for path in wrong_zarr_documents(self.layout, self.links):
            what = "differs from what the ledger says" if path.exists() else "is missing"
            self._document_fault(path, f"{path} {what}; `avpipe cache repair` writes it anew")

    def _check_strays(self, ledger: Ledger) -> None:
        planned = {self.layout.shard(array, unit) for array in ledger.arrays.values() for unit in ledger.planned}
        for path in strays(self.layout, self.links):
            what = (
                "is in the place of a unit that no record commits: the next `avpipe extract` replaces it"
                if path in planned
                else "belongs to nothing in the ledger: `avpipe cache gc` deletes it"
            )
            self._document_fault(path, f"{path} {what}")

    def _check_shards(self, ledger: Ledger) -> None:
        total = sum(file.bytes for unit in ledger.records for file in ledger.files(unit).values())
        with progress.task("verify", total=total / MIB, unit="MiB") as task:
            for unit, scans in scan_units(self.layout, ledger, self._is_local):
                self._check_unit(ledger, unit, self._as_it_is_now(ledger, unit, scans))
                task.advance(sum(scan.file.bytes for scan in scans) / MIB)

    def _as_it_is_now(self, ledger: Ledger, unit: int, scans: list[ShardScan]) -> list[ShardScan]:
        """A repair may have replaced a file after the ledger was read: then what was found is out of date."""
        while any(scan.faults for scan in scans):
            known = len(ledger.records[unit])
            if len(ledger.refresh_unit(unit)) == known:
                break
            files = [file for file in ledger.files(unit).values() if self._is_local(file)]
            scans = [scan_shard(self.layout, ledger, unit, file) for file in files]
        return scans

    def _check_unit(self, ledger: Ledger, unit: int, scans: list[ShardScan]) -> None:
        for scan in scans:
            self._take(scan)
        if any(scan.faults for scan in scans) or {scan.file.array for scan in scans} != ledger.unit_arrays(unit):
            return
        for clip in wrong_sums(ledger, unit, scans):
            path = self.layout.record(unit, 0)
            message = f"{path}: the content of clip {clip!r} is not what was recorded"
            self._fault(Fault(str(path), message, unit=unit, clip=clip))

    def _is_local(self, file: CommittedFile) -> bool:
        return not leads_through(self.layout.root / file.path, self.links)

    def _take(self, scan: ShardScan) -> None:
        path = str(self.layout.root / scan.file.path)
        for row, message in scan.faults:
            clip, segment = scan.owners.get(row, (None, None)) if row is not None else (None, None)
            self._fault(Fault(path, message, scan.file.array, scan.unit, clip, segment))
        self.files += 1
        self.rows += len(scan.sound)
        self.bytes += scan.file.bytes
