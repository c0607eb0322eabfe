"""`kill -9` during extraction, at random instants, again and again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache.verify import verify

AVPIPE = Path(sys.executable).with_name("avpipe")
STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
KILLS = 20


def _command(root: Path, cache: Path, *more: object) -> list[str]:
    fixed = ["extract", "--dataset", "ave", "--root", root, "--cache", cache, "--unit-segments", 10, *STUB]
    return [str(AVPIPE), *map(str, fixed), *map(str, more)]


def _units(cache: Path) -> int:
    return len(list((cache / "ledger" / "records").glob("*.json")))


def _kill_after_one_more_unit(command: list[str], cache: Path, rng: random.Random) -> bool:
    """Starts an extraction and kills it; False where it came to its end before."""
    before = _units(cache)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while _units(cache) <= before and process.poll() is None:
        assert time.monotonic() < deadline, "no unit was committed within a minute"
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timeout(400)
def test_kills_cost_nothing_but_time(tiny_ave, tmp_path, workers):
    unbroken = tmp_path / "unbroken"
    subprocess.run(_command(tiny_ave.root, unbroken), check=True, capture_output=True)
    expected = open_cache(unbroken).content_hash()
    rng, kills, caches = random.Random(workers), 0, 0
    while kills < KILLS:
        cache, caches = tmp_path / f"killed-{caches}", caches + 1
        command = _command(tiny_ave.root, cache, "--workers", workers)
        while kills < KILLS and _kill_after_one_more_unit(command, cache, rng):
            kills += 1
        subprocess.run(command, check=True, capture_output=True)
        found = open_cache(cache)
        assert found.content_hash() == expected
        assert sorted(found.clips()) == sorted(tiny_ave.ids)
        assert verify(cache).ok
        assert not any((cache / "ledger" / "tmp").iterdir())


def test_no_child_outlives_a_killed_extraction(tiny_ave, tmp_path):
    cache = tmp_path / "cache"
    process = subprocess.Popen(_command(tiny_ave.root, cache, "--workers", 2), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while _units(cache) < 1:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4  # two workers, and a decoder each
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, [child.cmdline() for child in alive]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_finishes_the_open_units(tiny_ave, tmp_path, workers):
    cache = tmp_path / "cache"
    command = _command(tiny_ave.root, cache, "--workers", workers)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while _units(cache) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "run the same command again" in errors
    assert 0 < len(open_cache(cache).clips()) < len(tiny_ave.ids)
    assert verify(cache).ok
