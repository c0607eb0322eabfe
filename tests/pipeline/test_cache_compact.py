"""Compaction: Parquet says what the JSON documents say, exactly, and is made when it is worth it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cache_toy as toy
import compact_toy as compacted
import pytest

from avpipe.pipeline.cache import compact_encode, open_cache
from avpipe.pipeline.cache.compact import compact, load, wanted
from avpipe.pipeline.cache.compact_decode import decode_plan, decode_records
from avpipe.pipeline.cache.compact_encode import encode_plan, encode_records
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger_files import refuse
from avpipe.pipeline.cache.records import CommittedClip, CommittedFile, Quarantined, Record

TORN = "name \udcff\ud800 \U0001f3b5"
"""Made from a file name that is no valid UTF-8."""


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template") / "c"
    compacted.grow(path)
    return path


@pytest.fixture
def grown(tmp_path, template) -> Layout:
    return Layout(Path(shutil.copytree(template, tmp_path / "c")))


@pytest.mark.parametrize("group_rows", [1, 2, 4096])
def test_says_exactly_what_the_documents_say(grown, monkeypatch, group_rows):
    monkeypatch.setattr(compact_encode, "_GROUP_ROWS", group_rows)
    assert compact(grown, compacted.told(grown))
    compaction = compacted.loaded(grown)
    assert (compaction.generation, compaction.records, compaction.plan) == (
        1,
        compacted.records(grown),
        compacted.plan(grown),
    )
    assert compaction.names == {path.name for path in grown.records.iterdir()}
    assert [record.as_json() for record in compaction.records] == [
        record.as_json() for record in compacted.records(grown)
    ]
    assert any(record.quarantined for record in compaction.records)
    assert len({record.sequence for record in compaction.records}) > 1
    assert len(compaction.plan) > len({record.unit for record in compaction.records})
    assert compacted.faults(grown) == []


def test_every_value_that_json_can_hold_comes_back(monkeypatch):
    provenance = [{"decoder": "toy 1", TORN: TORN}, {}]
    clips = [
        CommittedClip(TORN, 2**40, 3, TORN, {"visual": "110", "smell": "001"}, provenance[0], 2**128 - 1),
        CommittedClip("b", 0, 1, "", {}, provenance[1], 0),
        CommittedClip("c", 0, 1, "", {"audio": ""}, provenance[0], 2**127),
    ]
    rejected = Quarantined(TORN, "decode", f"{TORN}\n", "", TORN, 7, 12, provenance[1])
    file = CommittedFile("visual/a.b", "w/0001", "visual/a.b/c.12.0", 2**40, "0f" * 16, "f0" * 16)
    first = Record(12, 0, "w", 1.7e9 + 0.1, 2e9, {"a": 0.1, TORN: 3}, tuple(clips), (), (file, file))
    second = dataclasses.replace(first, sequence=1, clips=(), quarantined=(rejected,), files=(), work_seconds={})
    records = [first, second, dataclasses.replace(first, unit=13, quarantined=(), repairs=True)]
    documents = [Record.from_json(json.loads(json.dumps(record.as_json()))) for record in records]
    assert documents == records
    for group_rows in (1, 4096):
        monkeypatch.setattr(compact_encode, "_GROUP_ROWS", group_rows)
        assert list(decode_records(encode_records(records))) == records
        plan = [[("a", 0, 3), (TORN, 3, 1)], [], [("b", 2**40, 2)]]
        assert decode_plan(encode_plan(plan)) == plan
    assert list(decode_records(encode_records([]))) == decode_plan(encode_plan([])) == []


def test_any_parquet_reader_finds_the_columns(grown):
    parquet = pytest.importorskip("pyarrow.parquet")
    compact(grown, compacted.told(grown))
    table = parquet.read_table(grown.compact / "00000001.records.parquet")
    keys = list(zip(table["unit"].to_pylist(), table["sequence"].to_pylist(), strict=True))
    told = compacted.records(grown)
    assert keys == sorted(keys) == [(record.unit, record.sequence) for record in told]
    clips = table["clips"].combine_chunks().flatten()
    assert clips.field("id").to_pylist() == [
        clip.id.encode() for record in compacted.records(grown) for clip in record.clips
    ]
    content = [int.from_bytes(value, "big") for value in clips.field("content").to_pylist()]
    assert content == [clip.content for record in told for clip in record.clips]
    plan = parquet.read_table(grown.compact / "00000001.plan.parquet")
    assert plan["unit"].to_pylist() == list(range(compacted.told(grown).units))


def test_grows_by_generations_and_keeps_the_one_before(tmp_path):
    layout = Layout(tmp_path / "c")
    for count in (2, 4, 6):
        toy.extract(layout.root, compacted.CLIPS[:count], compacted.ARRAYS[:2])
        stale = compacted.told(layout)
        toy.extract(layout.root, compacted.CLIPS[: count + 1], compacted.ARRAYS[:2])
        assert compact(layout, stale)  # looks again once it holds the lock
        assert not compact(layout, compacted.told(layout))
        assert compacted.loaded(layout).records == compacted.records(layout)
        assert compacted.faults(layout) == []
    assert compacted.present(layout) == compacted.names(2, 3)
    assert len(list(layout.records.iterdir())) == len(compacted.records(layout)) > 2  # nothing else was deleted
    toy.assert_sound(layout.root, compacted.CLIPS[:7], compacted.ARRAYS[:2])
    assert toy.left_temporaries(layout.root) == []


def test_an_empty_ledger_needs_no_generation(tmp_path):
    layout = Layout(tmp_path / "c")
    toy.begin(layout.root).close()
    assert not compact(layout, compacted.told(layout))
    assert load(layout, refuse) is None
    assert compacted.present(layout) == []


@pytest.mark.parametrize("odd", ["provenance", "digest"])
def test_records_that_parquet_cannot_hold_stay_in_json(grown, odd):
    """Such as provenance of any caller. The later records of that unit wait as well: none is skipped."""
    ledger = compacted.told(grown)
    first = ledger.records[1][0]
    assert len(ledger.records[1]) > 1
    if odd == "provenance":
        clip = dataclasses.replace(first.clips[0], provenance={"decoder": 3})
        ledger.records[1][0] = dataclasses.replace(first, clips=(clip, *first.clips[1:]))
    else:  # the same bytes, but not the same text
        file = dataclasses.replace(first.files[0], stamp=first.files[0].stamp.upper())
        assert file != first.files[0]
        ledger.records[1][0] = dataclasses.replace(first, files=(file, *first.files[1:]))
    assert compact(grown, ledger)
    assert compacted.loaded(grown).records == [record for record in compacted.records(grown) if record.unit != 1]
    assert not compact(grown, ledger)


def test_automatic_compaction_waits_until_it_is_worth_it():
    def ledger(count: int) -> SimpleNamespace:
        return SimpleNamespace(records={unit: [None] for unit in range(count)})

    def covering(count: int) -> SimpleNamespace:
        return SimpleNamespace(records=[None] * count)

    assert not wanted(ledger(255), None)
    assert wanted(ledger(256), None)
    assert not wanted(ledger(1255), covering(1000))
    assert wanted(ledger(1256), covering(1000))
    assert not wanted(ledger(9999), covering(9000))
    assert wanted(ledger(10_000), covering(9000))


def test_a_cache_without_compaction_never_imports_pyarrow(grown):
    code = "import sys; from avpipe.pipeline.cache import open_cache; open_cache(sys.argv[1]).clips(); "
    code += "assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(grown.root)], check=True, timeout=60)
    before = open_cache(grown.root).content_hash()
    compact(grown, compacted.told(grown))
    assert open_cache(grown.root).content_hash() == before


def test_the_scale_benchmark_measures_every_way():
    script = Path(__file__).parents[2] / "benchmarks" / "ledger_scale.py"
    command = [sys.executable, str(script), "--clips", "130", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rows = json.loads(done.stdout)["rows"]
    assert [(row["clips"], row["way"]) for row in rows] == [
        (130, way) for way in ("json", "compact", "open", "load", "columnar")
    ]
    assert all(row["seconds"] > 0 and row["peak_mb"] > 10 for row in rows)
    assert 0 < rows[-1]["parquet_mb"] < rows[-1]["json_mb"]
