"""Extraction on a Dask scheduler that runs already, with a worker of several threads."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from avpipe.pipeline import open_cache

TEST_VIT = ("--visual", "test_vit", "--image-size", "32", "--audio", "test_vit", "--weights", "random:0")
DASK = str(Path(sys.executable).with_name("dask"))


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler and one worker with four threads on loopback; gives the address and the worker's process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    main = subprocess.Popen(
        [DASK, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"], **quiet
    )
    worker = subprocess.Popen([DASK, "worker", address, "--nthreads", "4", "--no-dashboard", "--no-nanny"], **quiet)
    yield address, psutil.Process(worker.pid)
    for process in (worker, main):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_worker_with_threads_gives_the_same_cache_and_keeps_nothing(own_ave, avpipe, tmp_path, scheduler):
    address, worker = scheduler
    command = ("extract", "--dataset", "ave", *TEST_VIT, "--unit-segments", 10)
    avpipe(*command, "--cache", "here")
    for _ in range(2):  # the worker lives on; the second time the cache is a new one in the same place
        avpipe(*command, "--cache", "there", "--scheduler", address)
        assert open_cache(tmp_path / "here").content_hash() == open_cache(tmp_path / "there").content_hash()
        deadline = time.monotonic() + 5
        while [child for child in worker.children(recursive=True) if "avpipe" in " ".join(child.cmdline())]:
            assert time.monotonic() < deadline, "a decoder is left on the worker"
            time.sleep(0.05)
        shutil.rmtree(tmp_path / "there")


@pytest.mark.slow
def test_two_extractions_share_a_worker(own_ave, avpipe, tmp_path, scheduler):
    """Each cleans the worker up at its beginning and end, while the other one has a unit open there."""
    address, _ = scheduler
    command = ("extract", "--dataset", "ave", "--unit-segments", 10, "--scheduler", address)
    models = {"one": (*TEST_VIT, "--layers", "last:1"), "two": TEST_VIT}
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(lambda cache: avpipe(*command, *models[cache], "--cache", cache), models))
    assert all(len(open_cache(tmp_path / cache).clips()) == len(own_ave.ids) for cache in models)


def test_no_scheduler_there(own_ave, avpipe, tmp_path):
    impatient = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    nowhere = ("--scheduler", "tcp://127.0.0.1:9")
    done = avpipe("extract", "--dataset", "ave", *TEST_VIT, *nowhere, check=6, env=impatient)
    assert "dask scheduler" in done.stderr
    assert not (tmp_path / "cache").exists()
