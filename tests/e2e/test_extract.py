"""Stage one by command: resuming, growing, spreading over workers, and what a second run costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from avpipe.pipeline import open_cache

STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
TEST_VIT = ("--visual", "test_vit", "--image-size", "32", "--audio", "test_vit", "--weights", "random:0")


@pytest.mark.parametrize(
    "backbone", [pytest.param(STUB, id="stub"), pytest.param(TEST_VIT, id="timm", marks=pytest.mark.slow)]
)
def test_two_workers_give_the_same_cache(own_ave, avpipe, tmp_path, backbone):
    avpipe("extract", "--dataset", "ave", *backbone, "--cache", "one")
    avpipe("extract", "--dataset", "ave", *backbone, "--cache", "two", "--workers", 2, "--unit-segments", 20)
    one, two = open_cache(tmp_path / "one"), open_cache(tmp_path / "two")
    assert one.content_hash() == two.content_hash()
    assert len(one.clips()) == len(two.clips()) == len(own_ave.ids)
    assert one.unit_rows != two.unit_rows


@pytest.mark.alone
def test_a_second_run_computes_nothing_imports_no_torch_and_is_quick(own_ave, avpipe_here, tmp_path):
    command = ["extract", "--dataset", "ave", *TEST_VIT]
    avpipe_here(*command)
    code = (
        f"import sys; sys.argv = ['avpipe', *{command!r}, '--json']\n"
        "from avpipe.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'torch', 'timm', 'zarr', 'distributed'} & set(sys.modules)\n"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert time.perf_counter() - begun < 2
    summary = json.loads(done.stdout)
    assert (summary["extracted"], summary["clips"], summary["left"]) == (0, len(own_ave.ids), 0)


def test_a_cache_grows_by_clips_and_by_taps(own_ave, avpipe_here, tmp_path):
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "blocks.3")
    first = open_cache(tmp_path / "cache" / "ave")
    before = first.read(first.rows(own_ave.ids), ["visual/blocks.3"])["visual/blocks.3"]
    taps = {f"{m}/blocks.3{kind}" for m in ("visual", "audio") for kind in ("", ".stats")}
    assert set(first.arrays) == {"visual/frames", "audio/samples"} | taps
    own_ave.add(4)
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "blocks.3")
    for name in own_ave.ids[:6]:  # a further tap is made from the stored frames and samples, not from the videos
        own_ave.video(name).write_bytes(b"gone")
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "all")
    grown = open_cache(tmp_path / "cache" / "ave")
    assert sorted(grown.clips()) == sorted(own_ave.ids)
    again = grown.read(grown.rows(own_ave.ids[:6]), ["visual/blocks.3"])["visual/blocks.3"]
    np.testing.assert_array_equal(before, again)
    avpipe_here("cache", "verify")


def test_a_grown_cache_equals_one_made_at_once(own_ave, avpipe_here, tmp_path):
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "blocks.0")
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "all")
    avpipe_here("extract", "--dataset", "ave", *STUB, "--layers", "all", "--cache", "once")
    grown = open_cache(tmp_path / "cache" / "ave")
    assert grown.content_hash() == open_cache(tmp_path / "once").content_hash()


def test_dry_run_writes_nothing_and_foretells_the_bytes(own_ave, avpipe_here, tmp_path):
    foretold = json.loads(avpipe_here("extract", "--dataset", "ave", *STUB, "--dry-run", "--json").stdout)
    assert not (tmp_path / "cache").exists()
    avpipe_here("extract", "--dataset", "ave", *STUB)
    arrays = open_cache(tmp_path / "cache" / "ave").arrays
    rows = 10 * len(own_ave.ids)
    found = {a["name"]: a["bytes"] for a in foretold["arrays"]}
    assert found == {name: array.row_bytes * rows for name, array in arrays.items()}
    again = json.loads(avpipe_here("extract", "--dataset", "ave", *STUB, "--dry-run", "--json").stdout)
    assert (again["clips"], again["bytes"]) == (0, 0)


def test_what_is_used_is_said_before_while_and_after(own_ave, avpipe_here):
    (own_ave.root / "avpipe.yaml").write_text("backbones: {visual: {model: stub, weights: 'random:3'}}\n")
    command = ("extract", "--dataset", "ave", "--audio", "stub", "--audio-weights", "random:0", "--layers", "last:2")
    audio = "audio: stub, weights random:0, 2 of 4 blocks (blocks.2, blocks.3), float32, window segment"
    visual = "visual: stub, weights random:3, 2 of 4 blocks (blocks.2, blocks.3), float32 (from data/ave/avpipe.yaml)"
    plan = avpipe_here(*command, "--dry-run").stdout.splitlines()
    assert plan[:2] == [visual, audio]
    planned = json.loads(avpipe_here(*command, "--dry-run", "--json").stdout)["backbones"]
    first, again = avpipe_here(*command), avpipe_here(*command)
    for done in (first, again):  # also where nothing is left to do
        assert {visual, audio} <= set(done.stderr.splitlines())
    shown = [" ".join(line.split()) for line in avpipe_here("cache", "show").stdout.splitlines()]
    assert audio.replace("audio:", "audio") in shown
    kept = json.loads(avpipe_here("cache", "show", "--json").stdout)["backbones"]
    assert kept["visual"] | {"origin": planned["visual"]["origin"]} == planned["visual"]
    assert (kept["visual"]["weights"], kept["visual"]["taps"]) == ("random:3", ["blocks.2", "blocks.3"])
    assert (kept["audio"]["model"], kept["audio"]["window"], kept["visual"]["window"]) == ("stub", "segment", None)


def test_frames_and_samples_are_the_media(own_ave, avpipe_here, tmp_path):
    avpipe_here("extract", "--dataset", "ave", *STUB)
    cache = open_cache(tmp_path / "cache" / "ave")
    for number, name in enumerate(own_ave.ids):
        stored = cache.read(cache.rows([name]), ["visual/frames", "audio/samples"])
        shade = np.random.default_rng(number).integers(0, 256, (10, 1, 1, 3))
        assert np.abs(stored["visual/frames"].mean((1, 2)) - shade[:, 0, 0]).max() < 12  # H.264 is lossy
        assert stored["audio/samples"].shape == (10, 16000)
        spectrum = np.abs(np.fft.rfft(stored["audio/samples"][5].astype(np.float64)))
        expected = (0.05 + 0.01 * (number % 20)) * 16000 / (2 * np.pi)
        assert abs(int(spectrum.argmax()) - expected) < 3


def test_status_and_show_speak_of_the_cache(own_ave, avpipe_here, tmp_path):
    avpipe_here("extract", "--dataset", "ave", *STUB)
    shown = json.loads(avpipe_here("cache", "show", "--json").stdout)
    assert shown["content_hash"] == open_cache(tmp_path / "cache" / "ave").content_hash()
    status = json.loads(avpipe_here("status", "--json").stdout)
    assert status["clips"]["done"] == len(own_ave.ids)
    assert status["clips"]["left"] == 0
    avpipe_here("cache", "show")
    assert "cache:" in avpipe_here("status").stderr  # which one is not said where it was named
    assert avpipe_here("status", "--dataset", "ave").stderr == ""
    assert avpipe_here("cache", "show", "--dataset", "ave").stderr == ""
    assert "is no cache" in avpipe_here("status", "--dataset", "llp", check=2).stderr
