"""A cache of format 1 stays readable: by avpipe, and by whoever follows `docs/cache-format.md`.

`tests/tools/make_golden_cache.py` made `cache_v1`, once. What it holds follows from the formula below.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).with_name("cache_v1")
CONTENT_HASH = "e0dae9f6bc58001a0c572b9b785e5547"
CLIPS = {"-a b": 2, "name \udcff": 2, "moves": 1, "d": 3}
"""Committed clips by row, with their segments; `moves` left a row of unit 0 behind, `torn` was rejected."""
ARRAYS = {
    "visual/frames": ((2, 3, 3), "uint8"),
    "visual/blocks.1": ((2, 4), "float16"),
    "audio/samples": ((6,), "int16"),
}
AUDIO_MASK = [True, False, True]


def _row(clip: str, array: str, segment: int) -> np.ndarray:
    shape, dtype = ARRAYS[array]
    seed = sum(clip.encode("utf-8", "surrogatepass")) + 10 * sum(array.encode()) + 100 * segment
    numbers = (seed + 7 * np.arange(np.prod(shape))) % 251
    return (numbers / 4 if dtype.startswith("float") else numbers).astype(dtype).reshape(shape)


@pytest.fixture
def cache(tmp_path) -> Path:
    """A copy: whoever opens a cache may tidy up in it."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def test_every_row_reads_as_it_was_written(cache):
    from avpipe.pipeline.cache import open_cache, verify

    opened = open_cache(cache)
    clips = opened.clips()
    assert {clip: rows.segments for clip, rows in clips.items()} == CLIPS
    assert {name: (spec.row_shape, spec.dtype) for name, spec in opened.arrays.items()} == ARRAYS
    for clip, segments in CLIPS.items():
        read = opened.read(opened.rows([clip]), list(ARRAYS), check="always", access="pread")
        for array, values in read.items():
            expected = np.stack([_row(clip, array, segment) for segment in range(segments)])
            np.testing.assert_array_equal(values, expected)
            assert values.dtype == expected.dtype
        np.testing.assert_array_equal(clips[clip].masks["audio"], AUDIO_MASK[:segments])
        assert clips[clip].provenance["device"] == "cpu"
    assert [(q.clip, q.stage, q.reason, q.attempts) for q in opened.quarantined()] == [
        ("torn", "decode", "it is torn", 1)
    ]
    assert opened.content_hash() == CONTENT_HASH
    report = verify(cache)
    assert report.ok, report.faults
    assert report.records == 4


def test_the_content_hash_is_that_of_the_rows():
    import xxhash

    total = 0
    for clip, segments in CLIPS.items():
        for array in ARRAYS:
            for segment in range(segments):
                name = clip.encode("utf-8", "surrogatepass") + b"\0" + array.encode() + b"\0"
                data = name + struct.pack("<I", segment) + _row(clip, array, segment).tobytes()
                total += xxhash.xxh3_128_intdigest(data)
    assert f"{total % 2**128:032x}" == CONTENT_HASH


def test_its_compaction_says_what_its_documents_say(cache):
    from avpipe.pipeline.cache.compact import check, load
    from avpipe.pipeline.cache.layout import Layout
    from avpipe.pipeline.cache.ledger import Ledger
    from avpipe.pipeline.cache.ledger_files import refuse

    documents = Ledger(Layout(cache), compacted=False)
    compaction = load(Layout(cache), refuse)
    assert compaction is not None
    records = [record for unit in sorted(documents.records) for record in documents.records[unit]]
    assert compaction.records == [record for record in records if not record.repairs]
    assert len(compaction.records) == 3
    assert check(Layout(cache), documents) == []


def test_it_can_be_extended(cache):
    from avpipe.pipeline.cache import CacheWriter, open_cache, verify

    with CacheWriter.open(cache) as writer:
        arrays = [array for array in open_cache(cache).arrays.values() if array.modality == "visual"]
        (work,) = writer.plan([("new", 2, "")], arrays).pending
        with writer.unit(work) as unit:
            for array in arrays:
                for segment in range(2):
                    unit.write(array.name, work.clips[0].start + segment, _row("new", array.name, segment))
            unit.clip_done(work.clips[0], {"visual": np.ones(2, dtype=bool)}, {})
            assert unit.commit()
    opened = open_cache(cache)
    assert sorted(opened.clips(["visual/frames"])) == sorted([*CLIPS, "new"])
    rows = opened.read(opened.rows(["new", "d"]), ["visual/blocks.1"])["visual/blocks.1"]
    expected = [_row(clip, "visual/blocks.1", segment) for clip, n in (("new", 2), ("d", 3)) for segment in range(n)]
    np.testing.assert_array_equal(rows, expected)
    assert verify(cache).ok


# What follows is a reader of its own: json, struct and numpy, written after docs/cache-format.md alone.


def _sealed(path: Path) -> dict:
    data = path.read_bytes()
    assert data[-48:-35] == b',"xxh3_128":"'
    assert data.endswith(b'"}\n')
    return json.loads(data)


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _shard_rows(path: Path, unit_rows: int, stamp: str) -> dict[int, bytes]:
    """The bytes of each row of a unit that is there."""
    data = path.read_bytes()
    index = data[-16 * unit_rows - 4 :]
    assert struct.unpack("<I", index[-4:])[0] == _crc32c(index[:-4])
    assert data[-16 * unit_rows - 20 : -16 * unit_rows - 4].hex() == stamp
    rows = {}
    for row in range(unit_rows):
        offset, size = struct.unpack_from("<QQ", index, 16 * row)
        if offset != 2**64 - 1:
            chunk = data[offset : offset + size]
            assert struct.unpack("<I", chunk[-4:])[0] == _crc32c(chunk[:-4])
            rows[row] = chunk[:-4]
    return rows


def _read_all(cache: Path) -> dict[str, dict[str, list[np.ndarray]]]:
    """Clip -> array -> its rows, for every clip that is committed."""
    ledger = cache / "ledger"
    unit_rows = _sealed(ledger / "cache.json")["unit_rows"]
    arrays = {array["name"]: array for array in map(_sealed, (ledger / "arrays").iterdir())}
    names = sorted((int(u), int(s)) for u, s in (p.name.split(".")[:2] for p in (ledger / "records").iterdir()))
    records = [_sealed(ledger / "records" / f"{unit:08d}.{sequence:04d}.json") for unit, sequence in names]
    files, members, home = {}, {}, {}
    for record in records:
        unit = record["unit"]
        for file in record["files"]:
            files[unit, file["array"]] = file  # a later one is a repair
        if not record.get("repairs"):
            for clip in record["clips"]:
                home[clip["id"]] = max(unit, home.get(clip["id"], 0))
                entry = members.setdefault((unit, clip["id"]), (clip, []))
                entry[1].extend(file["array"] for file in record["files"])
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for (unit, name), (clip, committed) in members.items():
        if home[name] != unit:  # superseded
            continue
        found[name] = {}
        for array in committed:
            file, spec = files[unit, array], arrays[array]
            rows = _shard_rows(cache / file["path"], unit_rows, file["stamp"])
            first = clip["start"] - unit * unit_rows
            dtype = np.dtype(spec["dtype"]).newbyteorder("<")
            found[name][array] = [
                np.frombuffer(rows[row], dtype).reshape(spec["row_shape"])
                for row in range(first, first + clip["segments"])
            ]
    return found


def test_a_reader_that_knows_the_format_alone_finds_the_same():
    found = _read_all(GOLDEN)
    assert {clip: {array: len(rows) for array, rows in arrays.items()} for clip, arrays in found.items()} == {
        clip: dict.fromkeys(ARRAYS, segments) for clip, segments in CLIPS.items()
    }
    for clip, arrays in found.items():
        for array, rows in arrays.items():
            for segment, row in enumerate(rows):
                np.testing.assert_array_equal(row, _row(clip, array, segment))


def test_every_document_has_a_twin():
    ledger = GOLDEN / "ledger"
    twins = list((ledger / "twins").rglob("*.json"))
    assert len(twins) == 12
    for twin in twins:
        assert twin.read_bytes() == (ledger / twin.relative_to(ledger / "twins")).read_bytes()
