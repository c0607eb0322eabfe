"""The ledger as read at one moment: what is planned, what is committed, what is quarantined.

A ledger is a set of immutable, sealed documents. `refresh` reads the ones that it has not read yet, so keeping up with
other writers is cheap. What no record names does not exist, whatever files there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.cache.compact_decode import without_collector
from avpipe.pipeline.cache.documents import read_sealed
from avpipe.pipeline.cache.generations import Compaction, load
from avpipe.pipeline.cache.layout import FORMAT, ArraySpec, Layout
from avpipe.pipeline.cache.ledger_facts import LedgerFacts
from avpipe.pipeline.cache.ledger_files import LedgerFiles, OnFault, refuse
from avpipe.pipeline.cache.recordcheck import misplaced
from avpipe.pipeline.cache.records import Record
from avpipe.pipeline.cache.spec import Spec
from avpipe.pipeline.cache.twins import documents_with_twins
from avpipe.pipeline.errors import CorruptionFound, UsageError

_RECORD_NAME = re.compile(r"(\d{8,})\.(\d{4,})\.json")
_PLAN_NAME = re.compile(r"(\d{8,})\.json")
REMEDY = "`avpipe cache repair` puts it back"
_SPEC_NAME = re.compile(r"spec-([a-z0-9_]+)\.json")


class Ledger(LedgerFacts):
    """A snapshot of a cache's ledger.

    Attributes:
        layout: paths of the cache.
        info: members of `cache.json`.
        unit_rows: rows of a unit.
        specs: by modality.
        arrays: every declared array, by name.
        compaction: the compaction that was read, None where there is none.

    Args:
        layout: paths of the cache.
        on_fault: takes each damaged document and goes on without it; by default the first one raises `CorruptionFound`.
        compacted: read the newest compaction in place of the documents that it covers.

    Raises:
        UsageError: there is no cache here, or one of a later format.
        CorruptionFound: a document is damaged, or one that others refer to is missing.
    """

    def __init__(self, layout: Layout, on_fault: OnFault | None = None, *, compacted: bool = True) -> None:
        super().__init__()
        self.layout = layout
        self._on_fault = on_fault or refuse
        self._files = LedgerFiles(self._on_fault)
        self.info = self._read_info()
        self.unit_rows: int = self.info.get("unit_rows", 1)
        self.specs: dict[str, Spec] = {}
        self.arrays: dict[str, ArraySpec] = {}
        self._plan_damaged = False
        twins = documents_with_twins(layout)  # listed first: a twin is written after its document
        self.compaction = load(layout, _say_damaged) if compacted else None
        if self.compaction is not None:
            with without_collector():
                self._take_compaction(self.compaction)
        self.refresh()
        self._require_documents(twins, "its twin is there")
        if self.compaction is not None:
            covered = (layout.records / name for name in self.compaction.names)
            self._require_documents(covered, "the compacted ledger has its content")

    def refresh(self) -> None:
        """Reads what has been added since the last time."""
        # Records are listed first: whatever they refer to was written before them, so it is found afterwards.
        found = self._new_records()
        self._read_specs()
        self._read_arrays()
        self._read_plans()
        for (unit, sequence), path in found:
            self._add_record(unit, sequence, path)

    def refresh_unit(self, unit: int) -> list[Record]:
        """Reads new records of one unit and returns all of them; does not list the folder."""
        while True:
            sequence = len(self.records.get(unit, ()))
            path = self.layout.record(unit, sequence)
            if self._files.has_read(path) or not path.exists():
                return self.records.get(unit, [])
            self._read_arrays()
            self._read_plans()
            self._add_record(unit, sequence, path)

    def _take_compaction(self, compaction: Compaction) -> None:
        """Takes over what a compaction says; the documents that it covers must be there, but are not read."""
        self._read_specs()
        self._read_arrays()
        for unit, clips in enumerate(compaction.plan):
            self.plan_unit(unit, clips)
        self._files.skip(self.layout.plan_document(first) for first in range(len(compaction.plan)))
        for record in compaction.records:
            path = self.layout.record(record.unit, record.sequence)
            self._files.skip([path])
            self._take_record(record, record.unit, record.sequence, path)

    def _require_documents(self, known: Iterable[Path], witness: str) -> None:
        """A record that is lost would look like one that never was, if nothing else remembered it."""
        for path in known:
            if path not in self._files.listed and not path.exists():
                self._on_fault(path, f"{path} is missing, though {witness}; {REMEDY}")

    def _read_info(self) -> dict[str, Any]:
        path = self.layout.cache_document
        try:
            info = read_sealed(path)
        except (FileNotFoundError, NotADirectoryError):
            if not self.layout.has_documents():
                raise UsageError(f"{self.layout.root} is no cache: {path} is missing") from None
            if path.exists():  # it was just made
                return self._read_info()
            self._on_fault(path, f"{path} is missing, yet the ledger has records; {REMEDY}")
            return {}
        except CorruptionFound as error:
            self._on_fault(path, str(error))
            return {}
        if info["format"] > FORMAT:
            raise UsageError(
                f"{self.layout.root} has format {info['format']}; this avpipe reads up to {FORMAT}: update it"
            )
        return info

    def _read_specs(self) -> None:
        for _, path in self._files.unread(self.layout.ledger, _SPEC_NAME):
            with self._files.sealed(path) as content:
                if content:
                    spec = Spec.from_json(content)
                    self.specs[spec.modality] = spec

    def _read_arrays(self) -> None:
        for _, path in self._files.unread(self.layout.arrays, re.compile(r"(.+)\.json")):
            with self._files.sealed(path) as content:
                if content:
                    self._add_array(ArraySpec.from_json(content))

    def _add_array(self, array: ArraySpec) -> None:
        self.arrays[array.name] = array
        missing = self.layout.spec(array.modality)
        if array.modality not in self.specs and not missing.exists():
            self._on_fault(
                missing,
                f"{missing} is missing, yet {array.name} was declared under it; {REMEDY}",
            )

    def _read_plans(self) -> None:
        found = [(int(first), path) for (first,), path in self._files.unread(self.layout.plan, _PLAN_NAME)]
        for first, path in sorted(found):
            while self.units < first and not self._plan_damaged:
                # A listing may show a document and not the one before it, if both appear meanwhile: look for itself.
                earlier = self.layout.plan_document(self.units)
                if self._files.has_read(earlier) or not earlier.exists():
                    break
                self._read_plan(earlier)
            if first != self.units and not self._plan_damaged:
                missing = self.layout.plan_document(self.units)
                self._on_fault(missing, f"{missing} is missing: it planned units {self.units} to {first - 1}")
                self._plan_damaged = True
            self._read_plan(path)

    def _read_plan(self, path: Path) -> None:
        with self._files.sealed(path) as content:
            if content is None:
                self._plan_damaged = True
                return
            for unit, clips in enumerate(content["units"], start=content["first_unit"]):
                self.plan_unit(unit, clips)

    def _new_records(self) -> list[tuple[tuple[int, int], Path]]:
        found = [((int(u), int(s)), p) for (u, s), p in self._files.unread(self.layout.records, _RECORD_NAME)]
        expected = {unit: len(records) for unit, records in self.records.items()}
        unlisted = []
        for (unit, sequence), _ in sorted(found):
            for earlier in range(expected.get(unit, 0), sequence):
                path = self.layout.record(unit, earlier)
                if self._files.has_read(path):
                    continue
                if path.exists():  # a listing may show a record and not the one before it, if both appear meanwhile
                    unlisted.append(((unit, earlier), path))
                else:
                    self._on_fault(
                        path,
                        f"{path} is missing, yet a later record of unit {unit} is there; {REMEDY}",
                    )
            expected[unit] = sequence + 1
        return sorted(found + unlisted)

    def _add_record(self, unit: int, sequence: int, path: Path) -> None:
        with self._files.sealed(path) as content:
            if content is None:
                return
            try:
                record = Record.from_json(content)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                self._on_fault(path, f"{path} is no commit record of format {FORMAT}: {error!r}")
                return
            self._take_record(record, unit, sequence, path)

    def _take_record(self, record: Record, unit: int, sequence: int, path: Path) -> None:
        if problem := self._contradiction(record, unit, sequence, path):
            self._on_fault(*problem)
            return
        self.take(record)

    def _contradiction(self, record: Record, unit: int, sequence: int, path: Path) -> tuple[Path, str] | None:
        """What in the rest of the ledger does not fit a record: the file at fault, and a message."""
        if (record.unit, record.sequence) != (unit, sequence):
            return path, f"{path} is the record {record.unit}.{record.sequence} under another name"
        for file in record.files:
            if file.array not in self.arrays:
                missing = self.layout.array_declaration(file.array)
                return missing, f"{missing} is missing or damaged, yet {path} commits rows of {file.array}"
        if fault := misplaced(record, self.arrays, self.unit_arrays(unit)):
            return path, f"{path} is no record that a writer makes: {fault}"
        if record.repairs and not {clip.id for clip in record.clips} <= self.held.get(unit, {}).keys():
            return path, f"{path} repairs clips that its unit does not hold"
        if self._plan_damaged:
            return None
        if unit not in self.planned:
            missing = self.layout.plan_document(self.units)
            return missing, f"{missing} is missing, yet {path} commits unit {unit}; {REMEDY}"
        for clip in record.clips:
            if self.planned[unit].get(clip.id) != (clip.start, clip.segments):
                return path, f"{path} holds clip {clip.id!r} in rows that the plan of its unit does not give it"
        return None


def _say_damaged(path: Path, message: str) -> None:
    """A damaged index is no reason not to open a cache: the documents that it covers are read in its place."""
    progress.say(message)
