"""Commit records and the plan as Parquet: nested columns that mirror the JSON documents one to one.

Text is stored as binary, in the encoding of `content.encode_id`: JSON can hold ids made from file names that are no
valid UTF-8, Parquet's strings cannot. pyarrow is imported inside the functions: a cache without compaction never needs
it, and importing it takes 0.2 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from avpipe.pipeline.cache.content import encode_id
from avpipe.pipeline.cache.records import Record

PlannedUnit = Sequence[tuple[str, int, int]]
"""The clips of a unit: id, first row, segments."""

_GROUP_ROWS = 4096
"""Rows of a row group, the most that is held as Python objects on the way to Parquet or back."""
_MODALITIES = frozenset({"audio", "visual"})
"""Modalities that always have a column of masks: Parquet has no struct without members."""


def encode_records(records: Sequence[Record]) -> bytes:
    """A Parquet file with one row per record.

    Args:
        records: records, by unit and sequence.

    Raises:
        ValueError, TypeError, OverflowError, AttributeError: a member is not of the type that a writer gives it.
    """
    modalities = _MODALITIES.union(*(clip.masks for record in records for clip in record.clips))
    return _write(_record_schema(sorted(modalities)), map(_record_row, records))


def encode_plan(units: Iterable[PlannedUnit]) -> bytes:
    """A Parquet file with one row per unit.

    Args:
        units: the clips of each unit, from unit 0 on.

    Raises:
        ValueError, TypeError, OverflowError, AttributeError: a member is not of the type that a planner gives it.
    """
    rows = (
        {"unit": number, "clips": [{"id": encode_id(clip), "start": s, "segments": n} for clip, s, n in unit]}
        for number, unit in enumerate(units)
    )
    return _write(_plan_schema(), rows)


def _record_schema(modalities: Iterable[str]) -> Any:
    import pyarrow as pa

    text, digest, count = pa.binary(), pa.binary(16), pa.int64()
    masks = pa.struct(dict.fromkeys(modalities, text))
    clip = {"id": text, "start": count, "segments": count, "signature": text, "masks": masks}
    rejection = {"clip": text, "stage": text, "reason": text, "hint": text, "signature": text, "attempts": count}
    file = {"array": text, "path": text, "temporary": text, "bytes": count, "xxh3_128": digest, "stamp": digest}
    return pa.schema(
        {
            "unit": count,
            "sequence": pa.int32(),
            "writer": text,
            "began": pa.float64(),
            "committed": pa.float64(),
            "work_seconds": pa.map_(text, pa.float64()),
            "repairs": pa.bool_(),
            "clips": pa.list_(pa.struct({**clip, "provenance": pa.int32(), "content": digest})),
            "quarantined": pa.list_(pa.struct({**rejection, "provenance": pa.int32()})),
            "files": pa.list_(pa.struct(file)),
            "provenance": pa.list_(pa.map_(text, text)),
        }
    )


def _plan_schema() -> Any:
    import pyarrow as pa

    clip = pa.struct({"id": pa.binary(), "start": pa.int64(), "segments": pa.int64()})
    return pa.schema({"unit": pa.int64(), "clips": pa.list_(clip)})


def _record_row(record: Record) -> dict[str, Any]:
    """The record's document with text and hashes as bytes."""
    row = record.as_json()
    for clip in row["clips"]:
        _encode(clip, "id", "signature")
        _encode(clip["masks"], *clip["masks"])
        clip["content"] = bytes.fromhex(clip["content"])
    for entry in row["quarantined"]:
        _encode(entry, "clip", "stage", "reason", "hint", "signature")
    for file in row["files"]:
        _encode(file, "array", "path", "temporary")
        file.update(xxh3_128=bytes.fromhex(file["xxh3_128"]), stamp=bytes.fromhex(file["stamp"]))
    _encode(row, "writer")
    row["work_seconds"] = [(encode_id(stage), seconds) for stage, seconds in row["work_seconds"].items()]
    row["provenance"] = [[(encode_id(k), encode_id(v)) for k, v in entry.items()] for entry in row["provenance"]]
    return {**row, "repairs": record.repairs}


def _encode(row: dict[str, Any], *names: str) -> None:
    row.update({name: encode_id(row[name]) for name in names})


def _write(schema: Any, rows: Iterator[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", store_schema=False) as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data
