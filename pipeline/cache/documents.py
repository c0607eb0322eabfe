"""The two kinds of JSON documents in a cache: sealed ledger documents and Zarr's own `zarr.json`.

A sealed document is one JSON object whose last member is its own checksum, written so that the checksum covers *every*
byte before it: a reader hashes the file's bytes as they are and needs no canonical JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from avpipe.pipeline.cache.layout import FORMAT, ArraySpec
from avpipe.pipeline.errors import CorruptionFound

_KEY = b',"xxh3_128":"'
_TAIL_BYTES = len(_KEY) + 32 + len(b'"}\n')


def seal(content: Mapping[str, Any]) -> bytes:
    """A sealed document, UTF-8 (ASCII only).

    Args:
        content: JSON-ready members, at least one; `xxh3_128` is added behind them.
    """
    body = json.dumps(content, separators=(",", ":")).encode("ascii")[:-1]
    return body + _KEY + xxhash.xxh3_128_hexdigest(body).encode("ascii") + b'"}\n'


def unseal(data: bytes, path: Path) -> dict[str, Any]:
    """The content of a sealed document.

    Args:
        data: the file's bytes.
        path: the file, for the message.

    Raises:
        CorruptionFound: a byte differs from what was written.
    """
    body, tail = data[:-_TAIL_BYTES], data[-_TAIL_BYTES:]
    expected = _KEY + xxhash.xxh3_128_hexdigest(body).encode("ascii") + b'"}\n'
    if not body or tail != expected:
        raise CorruptionFound(
            f"{path}: its checksum does not match its {len(data)} bytes; "
            "`avpipe cache verify` shows all that is damaged, `avpipe cache repair` mends it"
        )
    content: dict[str, Any] = json.loads(data)
    del content["xxh3_128"]
    return content


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads and checks a sealed document; `FileNotFoundError` where there is none."""
    return unseal(path.read_bytes(), path)


def group_document(attributes: Mapping[str, Any] | None = None) -> bytes:
    """`zarr.json` of a group."""
    return _pretty({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})})


def root_document() -> bytes:
    """`zarr.json` of the cache itself."""
    return group_document({"avpipe": {"format": FORMAT}})


def ledger_document() -> bytes:
    """`zarr.json` of the ledger's folder: an array without elements.

    Zarr readers list a group's folder and complain about every file in it that is no Zarr node, but never look inside
    an array's folder. So the ledger poses as an empty array, and opening, listing or printing the tree of a cache stays
    silent.
    """
    return _pretty(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [0],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0,
            "codecs": [{"name": "bytes"}],
            "attributes": {"note": "commit ledger of the avpipe cache, JSON files; no array data"},
        }
    )


def array_document(array: ArraySpec, *, rows: int, unit_rows: int) -> bytes:
    """`zarr.json` of one array: a shard per unit, a chunk per row, CRC32C on chunks and index, no compression.

    Args:
        array: name, shape of a row and type.
        rows: rows that the planner has given out, a multiple of `unit_rows`.
        unit_rows: rows of a unit.
    """
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    checked = [little, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": [1, *array.row_shape],
        "codecs": checked,
        "index_codecs": checked,
        "index_location": "end",
    }
    return _pretty(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, *array.row_shape],
            "data_type": array.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [unit_rows, *array.row_shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": "NaN" if array.is_float else 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
        }
    )


def expected(arrays: Iterable[ArraySpec], *, rows: int, unit_rows: int) -> dict[str, bytes]:
    """Every `zarr.json` that a cache must have, by node ("" is the root): all of them follow from the ledger.

    Args:
        arrays: the declared arrays.
        rows: rows that the planner has given out.
        unit_rows: rows of a unit.
    """
    arrays = list(arrays)
    nodes = {"": root_document(), "ledger": ledger_document()}
    for modality in sorted({"visual", "audio", *(array.modality for array in arrays)}):
        nodes[modality] = group_document()
    for array in arrays:
        nodes[array.name] = array_document(array, rows=rows, unit_rows=unit_rows)
    return nodes


def _pretty(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode("ascii") + b"\n"
