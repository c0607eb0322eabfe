"""`kill -9` during extraction, at random instants, again and again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import extracting
import psutil
import pytest

from avpipe.pipeline import open_cache
from avpipe.pipeline.cache.verify import verify

AVPIPE = Path(sys.executable).with_name("avpipe")
LATEST_KILL_SECONDS = 0.1
"""A kill comes up to this long after a commit; a unit takes less."""


def _command(root: Path, cache: Path, *more: object) -> list[str]:
    fixed = ["extract", "--dataset", "ave", "--root", root, "--cache", cache, "--unit-segments", 10, *extracting.STUB]
    return [str(AVPIPE), *map(str, fixed), *map(str, more)]


def _assert_whole(cache: Path, dataset, expected: str) -> None:
    found = open_cache(cache)
    assert found.content_hash() == expected
    assert sorted(found.clips()) == sorted(dataset.ids)
    assert verify(cache).ok, verify(cache).faults
    assert not any((cache / "ledger" / "tmp").iterdir())


@dataclass
class Pair:
    """Two extractions into one cache, each begun again when it was killed."""

    root: Path
    cache: Path
    log: Path
    rng: random.Random
    writers: list[subprocess.Popen] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    instants: int = 0

    def start(self) -> subprocess.Popen:
        return extracting.start(self.root, self.cache, self.log)

    def kill_until_done(self, most: int) -> None:
        """Kills one of them or both, each time after one more commit, of those that have committed something."""
        self.writers = [self.start(), self.start()]
        while self.instants < most:
            before = extracting.records(self.cache)
            extracting.until(lambda before=before: extracting.records(self.cache) > before or self._ended())
            time.sleep(self.rng.uniform(0, LATEST_KILL_SECONDS))
            if self._ended():
                return
            committed = extracting.committed(self.cache)
            working = [writer for writer in self.writers if writer.pid in committed]
            victims = self.rng.sample(working, min(len(working), self.rng.choice((1, 1, 2))))
            for victim in victims:
                victim.kill()
            for victim in victims:
                if victim.wait() == -signal.SIGKILL:
                    self.killed.add(victim.pid)
                    self.writers[self.writers.index(victim)] = self.start()
            self.instants += any(victim.returncode == -signal.SIGKILL for victim in victims)

    def _ended(self) -> bool:
        return any(writer.poll() is not None for writer in self.writers)

    def finish(self) -> None:
        for writer in self.writers:
            extracting.finish(writer)

    def assert_little_was_done_twice(self) -> int:
        """Each killed process left at most one unit that it had begun; nobody else did anything in vain.

        Returns:
            clips that were computed and not committed.
        """
        computed, committed = extracting.computed(self.log), extracting.committed(self.cache)
        for process, units in computed.items():
            vain = units.keys() - committed[process].keys()
            assert len(vain) <= (process in self.killed), f"process {process} computed {sorted(vain)} in vain"
        kept = extracting.pairs(committed)
        assert len(kept) == len(set(kept))
        arrays = len(open_cache(self.cache).arrays)
        return (len(extracting.pairs(computed)) - len(kept)) // arrays


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_two_writers_are_killed_again_and_again(tiny_ave, tiny_hash, tmp_path, kills):
    rng, done, killed, again, caches = random.Random(kills), 0, 0, 0, 0
    while done < kills:
        folder = tmp_path / f"{caches}"
        folder.mkdir()
        pair = Pair(tiny_ave.root, folder / "c", folder / "log", rng)
        pair.kill_until_done(kills - done)
        pair.finish()
        _assert_whole(pair.cache, tiny_ave, tiny_hash)
        again += pair.assert_little_was_done_twice()
        done, killed, caches = done + pair.instants, killed + len(pair.killed), caches + 1
    assert again <= 2 * killed, "a unit has two clips"
    print(f"\n{done} kills of {killed} processes over {caches} caches; {again} clips of {caches * 40} computed again")


@pytest.mark.parametrize("most", [2, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.timeout(400)
def test_kills_of_an_extraction_on_dask(tiny_ave, tiny_hash, tmp_path, most):
    rng, cache, kills = random.Random(2), tmp_path / "c", 0
    command = _command(tiny_ave.root, cache, "--workers", 2)
    while kills < most:
        before = extracting.records(cache)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        extracting.until(lambda before=before: extracting.records(cache) > before)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    _assert_whole(cache, tiny_ave, tiny_hash)


def test_no_child_outlives_a_killed_extraction(tiny_ave, tmp_path):
    cache = tmp_path / "cache"
    process = subprocess.Popen(_command(tiny_ave.root, cache, "--workers", 2), stderr=subprocess.DEVNULL)
    extracting.until(lambda: extracting.records(cache) or process.poll() is not None)
    assert process.poll() is None
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
    extracting.until(lambda: extracting.records(cache) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "run the same command again" in errors
    assert 0 < len(open_cache(cache).clips()) < len(tiny_ave.ids)
    assert verify(cache).ok
