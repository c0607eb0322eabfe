"""From Parquet back to commit records and the plan, column by column: a million clips make a million objects."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise, repeat
from typing import Any, TypeVar

from avpipe.pipeline.cache.compact_encode import PlannedUnit
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, Quarantined, Record

Item = TypeVar("Item")
_Provenance = Sequence[Sequence[Mapping[str, str]]]


def decode_records(data: bytes) -> Iterator[Record]:
    """The records of a file of `encode_records`, equal to those that were read from JSON.

    Args:
        data: the file's bytes.

    Raises:
        ValueError, TypeError, KeyError, IndexError: it is no such file.
    """
    for table in _read(data):
        with without_collector():
            records = _records(table)
        yield from records


def decode_plan(data: bytes) -> list[PlannedUnit]:
    """The units of a file of `encode_plan`, from unit 0 on.

    Args:
        data: the file's bytes.

    Raises:
        ValueError, TypeError, KeyError, IndexError: it is no such file.
    """
    units: list[PlannedUnit] = []
    for table in _read(data):
        with without_collector():
            if table["unit"].to_pylist() != list(range(len(units), len(units) + len(table["unit"]))):
                raise ValueError("the units of a plan are not 0, 1, 2, ...")
            flat = table["clips"].flatten()
            columns = _texts(flat.field("id")), flat.field("start").to_pylist(), flat.field("segments").to_pylist()
            units += _cut(list(zip(*columns, strict=True)), table["clips"])
    return units


def _records(table: Mapping[str, Any]) -> list[Record]:
    units = table["unit"].to_pylist()
    provenance = [[_texts_of(entry) for entry in entries] for entries in table["provenance"].to_pylist()]
    members = zip(
        units,
        table["sequence"].to_pylist(),
        _texts(table["writer"]),
        table["began"].to_pylist(),
        table["committed"].to_pylist(),
        [{_text(stage): seconds for stage, seconds in entry} for entry in table["work_seconds"].to_pylist()],
        map(tuple, _cut(_clips(table["clips"], provenance), table["clips"])),
        map(tuple, _cut(_rejections(table["quarantined"], provenance, units), table["quarantined"])),
        map(tuple, _cut(_files(table["files"]), table["files"])),
        table["repairs"].to_pylist(),
        strict=True,
    )
    return [Record(*row) for row in members]


def _clips(column: Any, provenance: _Provenance) -> list[CommittedClip]:
    flat = column.flatten()
    members = zip(
        _texts(flat.field("id")),
        flat.field("start").to_pylist(),
        flat.field("segments").to_pylist(),
        _texts(flat.field("signature")),
        _masks(flat.field("masks")),
        _referred(flat.field("provenance"), provenance, column),
        [int.from_bytes(content, "big") for content in flat.field("content").to_pylist()],
        strict=True,
    )
    return [CommittedClip(*row) for row in members]


def _masks(column: Any) -> Iterator[Mapping[str, str]]:
    """Equal masks are one object: most clips have media everywhere."""
    modalities = [column.type.field(i).name for i in range(column.type.num_fields)]
    known: dict[tuple[str | None, ...], Mapping[str, str]] = {}
    for texts in zip(*(_texts(column.field(modality)) for modality in modalities), strict=True):
        if texts not in known:
            known[texts] = {m: text for m, text in zip(modalities, texts, strict=True) if text is not None}
        yield known[texts]


def _rejections(column: Any, provenance: _Provenance, units: Sequence[int]) -> list[Quarantined]:
    flat = column.flatten()
    members = zip(
        *(_texts(flat.field(name)) for name in ("clip", "stage", "reason", "hint", "signature")),
        flat.field("attempts").to_pylist(),
        _spread(units, column),
        _referred(flat.field("provenance"), provenance, column),
        strict=True,
    )
    return [Quarantined(*row) for row in members]


def _files(column: Any) -> list[CommittedFile]:
    flat = column.flatten()
    arrays = flat.field("array").dictionary_encode()
    names = _texts(arrays.dictionary)  # one object for each array, not for each file
    members = zip(
        [names[index] for index in arrays.indices.to_pylist()],
        _texts(flat.field("temporary")),
        _texts(flat.field("path")),
        flat.field("bytes").to_pylist(),
        [digest.hex() for digest in flat.field("xxh3_128").to_pylist()],
        [stamp.hex() for stamp in flat.field("stamp").to_pylist()],
        strict=True,
    )
    return [CommittedFile(*row) for row in members]


def _referred(indices: Any, provenance: _Provenance, column: Any) -> Iterator[Mapping[str, str]]:
    """What each item's index means in the list of its record."""
    return (known[index] for known, index in zip(_spread(provenance, column), indices.to_pylist(), strict=True))


def _spread(values: Sequence[Item], column: Any) -> Iterable[Item]:
    """The value of each row, once for every item of the row."""
    return chain.from_iterable(map(repeat, values, column.value_lengths().to_pylist()))


def _cut(items: list[Item], column: Any) -> Iterator[list[Item]]:
    """The items of all rows, row by row."""
    bounds = accumulate(column.value_lengths().to_pylist(), initial=0)
    return (items[first:end] for first, end in pairwise(bounds))


def _texts(column: Any) -> list[Any]:
    """A column of text as `str`, or None where the column holds nothing, as some masks do."""
    import pyarrow as pa

    try:
        texts: list[Any] = column.cast(pa.string()).to_numpy(zero_copy_only=False).tolist()
    except pa.ArrowInvalid:  # an id is no valid UTF-8
        texts = [data if data is None else _text(data) for data in column.to_pylist()]
    return texts


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _texts_of(entries: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in entries}


def _read(data: bytes) -> Iterator[dict[str, Any]]:
    """The row groups of a Parquet file, each as columns by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data))
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, use_threads=False)  # threads of its own would not survive a fork
        yield {name: table.column(name).combine_chunks() for name in table.column_names}


@contextmanager
def without_collector() -> Iterator[None]:
    """Without the garbage collector, which would look at all these objects again and again: three times as fast."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
