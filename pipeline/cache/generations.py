"""Generations of the compacted ledger as files: which are there, and reading one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from avpipe.pipeline.cache.compact_decode import decode_plan, decode_records
from avpipe.pipeline.cache.compact_encode import PlannedUnit
from avpipe.pipeline.cache.documents import read_sealed
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger_files import OnFault
from avpipe.pipeline.cache.records import Record
from avpipe.pipeline.errors import CorruptionFound

MISFITS = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError)
"""What comes of a value that is not of the type that it should have."""
_NAME = re.compile(r"(\d{8,})\.(?:json|records\.parquet|plan\.parquet)")
REMEDY = "nothing is lost, the ledger's JSON documents say the same; `avpipe cache repair` makes it anew"


@dataclass(frozen=True)
class Compaction:
    """One generation, as read.

    Attributes:
        generation: its number.
        records: what the commit records say, by unit and sequence; the first ones of each unit, without a gap.
        plan: the clips of each unit from unit 0 on: id, first row, segments.
        names: file names of the record documents that it covers.
    """

    generation: int
    records: list[Record]
    plan: list[PlannedUnit]
    names: frozenset[str]


def document(layout: Layout, number: int) -> Path:
    """The sealed document of a generation, without which there is none."""
    return layout.compact / f"{number:08d}.json"


def parquet_files(layout: Layout, number: int) -> tuple[Path, Path]:
    """Its records and its plan."""
    return layout.compact / f"{number:08d}.records.parquet", layout.compact / f"{number:08d}.plan.parquet"


def listed(layout: Layout) -> dict[int, set[Path]]:
    """Every file of a generation that is there, by number, ascending; the document may be missing. Follows no link."""
    found: dict[int, set[Path]] = {}
    for path in _content(layout):
        if (match := _NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
            found.setdefault(int(match[1]), set()).add(path)
    return dict(sorted(found.items()))


def existing(layout: Layout) -> list[int]:
    """Numbers of the generations that exist, sound or not, ascending."""
    return [number for number, paths in listed(layout).items() if document(layout, number) in paths]


def unfinished(layout: Layout) -> list[Path]:
    """Parquet files without their document."""
    files = listed(layout).items()
    return sorted(path for number, paths in files if document(layout, number) not in paths for path in paths)


def load(layout: Layout, on_fault: OnFault) -> Compaction | None:
    """The newest generation.

    Args:
        layout: paths of the cache.
        on_fault: takes each of its files that is damaged or missing; then there is no compaction.

    Returns:
        None where there is none, or a damaged one.
    """
    while numbers := existing(layout):
        faults: list[tuple[Path, str]] = []
        compaction = read(layout, numbers[-1], collector(faults))
        if compaction is None and existing(layout)[-1:] != numbers[-1:]:
            continue  # it was replaced and deleted while it was read: look again
        for fault in faults:
            on_fault(*fault)
        return compaction
    return None


def read(layout: Layout, number: int, on_fault: OnFault) -> Compaction | None:
    """One generation; every byte is compared with its hash before it is looked at.

    Args:
        layout: paths of the cache.
        number: number of the generation.
        on_fault: takes each of its files that is damaged or missing.

    Returns:
        None where something is wrong with it.
    """
    path = document(layout, number)
    sealed = _sealed(layout, number, on_fault)
    if sealed is None:
        return None
    content, (records_data, plan_data) = sealed
    try:
        records, plan = list(decode_records(records_data)), decode_plan(plan_data)
        if (number, len(records), len(plan)) != (content["generation"], content["records"], content["units"]):
            raise ValueError(f"they hold {len(records)} records and {len(plan)} units")
    except (*MISFITS, OSError, NotImplementedError) as error:  # the latter two: pyarrow's, of bytes that are no Parquet
        on_fault(path, f"{path} does not fit its Parquet files: {error!r}; {REMEDY}")
        return None
    return Compaction(number, records, plan, names_of(layout, records))


def is_sound(layout: Layout, number: int) -> bool:
    """Whether the bytes of a generation are those that were written; does not decode them."""
    return _sealed(layout, number, lambda path, message: None) is not None


def names_of(layout: Layout, records: Iterable[Record]) -> frozenset[str]:
    """File names of records' documents."""
    return frozenset(layout.record(record.unit, record.sequence).name for record in records)


def collector(faults: list[tuple[Path, str]]) -> OnFault:
    """What adds each fault to a list."""
    return lambda path, message: faults.append((path, message))


def _content(layout: Layout) -> list[Path]:
    return sorted(layout.compact.iterdir()) if layout.compact.is_dir() else []


def _sealed(layout: Layout, number: int, on_fault: OnFault) -> tuple[dict[str, Any], list[bytes]] | None:
    """The document of a generation and the bytes of its Parquet files, compared with their hashes."""
    path = document(layout, number)
    try:
        content = read_sealed(path)
        digests = {entry["name"]: entry["xxh3_128"] for entry in content["files"]}
        expected = [(file, digests[file.name]) for file in parquet_files(layout, number)]
    except CorruptionFound:
        on_fault(path, f"{path}: its checksum does not match its bytes; {REMEDY}")
        return None
    except OSError as error:
        on_fault(path, f"{path} cannot be read: {error.strerror}; {REMEDY}")
        return None
    except MISFITS as error:
        on_fault(path, f"{path} is no document of a compacted ledger: {error!r}; {REMEDY}")
        return None
    parts = [data for file, digest in expected if (data := _bytes_of(file, digest, on_fault)) is not None]
    return (content, parts) if len(parts) == len(expected) else None


def _bytes_of(path: Path, digest: str, on_fault: OnFault) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        on_fault(path, f"{path} cannot be read: {error.strerror}; {REMEDY}")
        return None
    if xxhash.xxh3_128_hexdigest(data) != digest:
        on_fault(path, f"{path}: its checksum does not match its {len(data)} bytes; {REMEDY}")
        return None
    return data
