"""What is damaged, lost or unfinished in the compacted ledger is found, replaced, and costs nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import compact_toy as compacted
import pytest
import xxhash

from avpipe.pipeline.cache import generations
from avpipe.pipeline.cache.compact import check, compact, load, tidy
from avpipe.pipeline.cache.compact_spare import spares
from avpipe.pipeline.cache.documents import read_sealed, seal
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import try_lock


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template") / "c"
    compacted.grow(path)
    return path


@pytest.fixture
def grown(tmp_path, template) -> Layout:
    return Layout(Path(shutil.copytree(template, tmp_path / "c")))


def _damages(path: Path) -> list[bytes | None]:
    data = path.read_bytes()
    flips = [bytearray(data) for _ in range(12)]
    for number, flipped in enumerate(flips):
        flipped[number * (len(data) - 1) // (len(flips) - 1)] ^= 1 << number % 8
    return [*map(bytes, flips), data[: len(data) // 2], data[:-1], b"", None]


@pytest.mark.parametrize("name", compacted.names(2))
def test_damage_is_reported_and_the_next_compaction_replaces_it(grown, name):
    compact(grown, compacted.told(grown))
    compacted.finish(grown)
    compact(grown, compacted.told(grown))
    victim, number = grown.compact / name, 2
    for damage in _damages(victim):
        sound = {path: path.read_bytes() for path in grown.compact.iterdir()}
        if damage is None:
            victim.unlink()
        else:
            victim.write_bytes(damage)
        found: list[Path] = []
        compaction = load(grown, lambda path, message, found=found: found.append(path))
        if damage is None and victim.suffix == ".json":  # then there is no such generation
            assert compaction is not None
            assert (compaction.generation, found) == (number - 1, [])
            assert compacted.faults(grown) == [
                p for p in sorted(sound) if p.name.startswith(f"{number:08d}") and p != victim
            ]
        else:
            assert (compaction, found) == (None, [victim])
            assert compacted.faults(grown) == [victim]
        assert compact(grown, compacted.told(grown))
        assert compacted.faults(grown) == []
        assert compacted.loaded(grown).records == compacted.records(grown)
        for path in grown.compact.iterdir():
            path.unlink()
        for path, data in sound.items():
            path.write_bytes(data)


def test_damage_to_the_generation_before_is_found_and_it_is_deleted(grown):
    compact(grown, compacted.told(grown))
    compacted.finish(grown)
    compact(grown, compacted.told(grown))
    victim = grown.compact / "00000001.plan.parquet"
    victim.write_bytes(victim.read_bytes()[:-1])
    assert compacted.faults(grown) == [victim]
    assert not compact(grown, compacted.told(grown))
    assert compacted.present(grown) == compacted.names(2)
    assert compacted.faults(grown) == []


def test_a_generation_that_says_something_else_is_found(grown):
    ledger = compacted.told(grown)
    first = ledger.records[0][0]
    ledger.records[0][0] = dataclasses.replace(first, writer="somebody else")
    ledger.planned[1] = {**ledger.planned[1], "extra": (99, 1)}
    assert compact(grown, ledger)
    folder = grown.compact
    assert compacted.faults(grown) == [folder / "00000001.records.parquet", folder / "00000001.plan.parquet"]


def test_what_a_lost_document_said_is_not_forgotten(grown):
    compact(grown, compacted.told(grown))
    lost = sorted(grown.records.iterdir())[-1]
    said = compacted.loaded(grown).records[-1]
    lost.unlink()
    ledger = Ledger(grown, lambda path, message: None, compacted=False)
    assert lost in [path for path, _ in check(grown, ledger)]
    assert not compact(grown, ledger)
    assert compacted.loaded(grown).records[-1] == said


def test_lost_documents_come_back_byte_for_byte(grown):
    documents = {path: path.read_bytes() for folder in (grown.records, grown.plan) for path in folder.iterdir()}
    assert len(list(grown.plan.iterdir())) == 3
    assert spares(grown) == {}
    compact(grown, compacted.told(grown))
    assert spares(grown) == documents
    for path in documents:  # such as the newest plan, of which only the twin's name is left
        path.write_bytes(b"")
    assert spares(grown) == documents


def test_one_owner_at_a_time(grown):
    grown.compact.mkdir()
    descriptor = try_lock(grown.compact_lock)
    assert descriptor is not None
    stray = grown.compact / "00000001.records.parquet"
    stray.write_bytes(b"being written")
    assert not compact(grown, compacted.told(grown))
    tidy(grown)
    assert stray.exists()
    assert compacted.faults(grown) == []  # somebody is at it
    os.close(descriptor)
    assert compacted.faults(grown) == [stray]
    tidy(grown)
    assert compacted.present(grown) == []
    assert compacted.faults(grown) == []


def test_a_reader_looks_again_when_its_generation_is_replaced_and_deleted(grown, monkeypatch):
    compact(grown, compacted.told(grown))
    original, seen = generations.read, []

    def read_too_late(layout, number, on_fault):
        seen.append(number)
        if len(seen) == 1:
            for path in layout.compact.iterdir():
                path.rename(path.with_name(path.name.replace("00000001", "00000004")))
            document = layout.compact / "00000004.json"
            content = read_sealed(document)
            content["generation"] = 4
            for entry in content["files"]:
                entry["name"] = entry["name"].replace("00000001", "00000004")
            document.write_bytes(seal(content))
        return original(layout, number, on_fault)

    monkeypatch.setattr(generations, "read", read_too_late)
    assert compacted.loaded(grown).generation == 4
    assert seen == [1, 4]


@pytest.mark.parametrize("change", [{"records": 1}, {"units": 0}, {"generation": 2}, {"files": []}, {"files": 3}])
def test_a_document_that_does_not_fit_its_parts_is_refused(grown, change):
    compact(grown, compacted.told(grown))
    document = grown.compact / "00000001.json"
    document.write_bytes(seal({**read_sealed(document), **change}))
    found: list[Path] = []
    assert load(grown, lambda path, message: found.append(path)) is None
    assert found == compacted.faults(grown) == [document]


def test_parts_that_are_no_parquet_are_refused(grown):
    compact(grown, compacted.told(grown))
    document, part = grown.compact / "00000001.json", grown.compact / "00000001.plan.parquet"
    content = read_sealed(document)
    other = (grown.compact / "00000001.records.parquet").read_bytes()
    for data in (b"", b"PAR1", other, part.read_bytes()[:-12] + b"PAR1"):
        part.write_bytes(data)
        digests = {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}
        content["files"] = [entry | digests if entry["name"] == part.name else entry for entry in content["files"]]
        document.write_bytes(seal(content))
        assert compacted.faults(grown) == [document]
