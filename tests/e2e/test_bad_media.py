"""Datasets with bad clips through `avpipe extract`: good ones are cached, bad ones are named, nothing is left over."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import bad_media
import extracting
import pytest
from watching import Watch

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache import verify

AVPIPE = Path(sys.executable).with_name("avpipe")


def _start(folder: Path, root: Path, cache: str, *more: object) -> subprocess.Popen:
    """An extraction with stub decoders whose folder for temporary files and core files is `folder`."""
    (folder / "temporary").mkdir(exist_ok=True)
    options = ["--dataset", "ave", "--root", root, "--cache", folder / cache, *extracting.STUB, "--json", *more]
    return subprocess.Popen(
        [AVPIPE, "extract", *map(str, options)],
        cwd=folder,
        env={**os.environ, **bad_media.STUBBED, "TMPDIR": str(folder / "temporary")},
        stdout=(folder / "stdout").open("w"),
        stderr=(folder / "stderr").open("w"),
    )


def _assert_named(quarantined: list[dict], bad: list[str]) -> None:
    """Exactly the bad clips, each with its stage and its reason."""
    assert sorted(entry["clip"] for entry in quarantined) == sorted(bad)
    for entry in quarantined:
        expected = bad_media.BAD[bad_media.kind_of(entry["clip"])]
        assert re.fullmatch(expected.stage, entry["stage"]), entry
        assert re.search(expected.reason, entry["reason"]), entry
        assert "\n" not in entry["reason"]
        assert entry["clip"] in entry["reason"]


def _assert_nothing_is_left(folder: Path, root: Path, cache: str, files: set[Path]) -> None:
    assert set(root.rglob("*")) == files
    assert {path.name for path in folder.iterdir()} <= {cache, "temporary", "stdout", "stderr", root.name}
    assert {path.name for path in (folder / "temporary").iterdir()} <= {"dask-scratch-space"}  # Dask clears it up
    assert not list((folder / cache / "ledger" / "tmp").iterdir())
    assert verify(folder / cache).ok


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_kind_of_bad_clip_among_good_ones(tiny_ave, tiny_hash, tmp_path, workers):
    goods = [tiny_ave.video(name) for name in tiny_ave.ids]
    bad = bad_media.bad_names(len(bad_media.BAD))
    mixed = [name for pair in zip(bad, reversed(tiny_ave.ids), strict=False) for name in pair]
    mixed += [name for name in tiny_ave.ids if name not in mixed]  # not in the order of the other cache
    root = bad_media.write_dataset(tmp_path / "data", mixed, goods)
    files = set(root.rglob("*"))
    running = _start(tmp_path, root, "cache", "--decoders", 2, "--deadline", 8, "--workers", workers)
    watch = Watch(running)
    assert running.returncode == 3, (tmp_path / "stderr").read_text()
    _assert_named(json.loads((tmp_path / "stdout").read_text())["quarantined"], bad)
    assert open_cache(tmp_path / "cache").content_hash() == tiny_hash
    assert not watch.zombies
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    _assert_nothing_is_left(tmp_path, root, "cache", files)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_clips_with_five_in_a_hundred_bad(tiny_ave, tmp_path):
    goods = [tiny_ave.video(name) for name in tiny_ave.ids]
    bad = bad_media.bad_names(100)
    names = [f"clip{number:06d}" for number in range(1900)]
    mixed = names.copy()
    for place, name in enumerate(bad):
        mixed.insert(place * 20, name)
    root = bad_media.write_dataset(tmp_path / "data", mixed, goods)
    files, begun = set(root.rglob("*")), time.monotonic()
    running = _start(tmp_path, root, "cache", "--decoders", 2, "--deadline", 8)
    watch = Watch(running)
    seconds = time.monotonic() - begun
    assert running.returncode == 3, (tmp_path / "stderr").read_text()
    _assert_named(json.loads((tmp_path / "stdout").read_text())["quarantined"], bad)
    cache = open_cache(tmp_path / "cache")
    assert sorted(cache.clips()) == names
    grown, grown_child = watch.growth_mb(), watch.growth_of_children_mb()
    most = max(mb for _, mb in watch.anonymous)
    print(f"\n{seconds:.0f} s, {1000 * seconds / 2000:.0f} ms a clip; {len(watch.children)} children; growth from the")
    print(f"second to the last quarter: {grown:+.1f} MB of {most:.0f} at most, a child {grown_child:+.1f} MB")
    assert grown < 15
    assert grown_child < 15
    assert not watch.zombies
    _assert_nothing_is_left(tmp_path, root, "cache", files)
    alone = bad_media.write_dataset(tmp_path / "alone" / "data", sorted(names, reverse=True), _of(root, names))
    only_good = _start(tmp_path / "alone", alone, "cache", "--decoders", 1)
    assert only_good.wait(1500) == 0, (tmp_path / "alone" / "stderr").read_text()
    assert open_cache(tmp_path / "alone" / "cache").content_hash() == cache.content_hash()


def _of(root: Path, names: list[str]) -> list[Path]:
    return [root / "AVE_Dataset" / "AVE" / f"{name}.mp4" for name in names]
