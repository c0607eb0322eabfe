"""The end of an extraction whose decoders hang: by SIGKILL, SIGTERM or Ctrl-C twice, no process and no file is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bad_media
import extracting
import psutil
import pytest
from watching import alive

AVPIPE = Path(sys.executable).with_name("avpipe")
HANGS = ("000000-bad-stub--note-and-hang", "000001-bad-stub--note-and-hang")


def _interrupt_twice(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)


ENDS = {
    "kill": (subprocess.Popen.kill, -signal.SIGKILL),
    "terminate": (subprocess.Popen.terminate, None),
    "ctrl-c twice": (_interrupt_twice, 130),
}


@pytest.mark.parametrize(
    ("end", "workers"),
    [
        ("kill", 1),
        ("ctrl-c twice", 1),
        pytest.param("terminate", 1, marks=pytest.mark.slow),
        pytest.param("kill", 2, marks=pytest.mark.slow),
        pytest.param("terminate", 2, marks=pytest.mark.slow),
        pytest.param("ctrl-c twice", 2, marks=pytest.mark.slow),
    ],
)
def test_no_child_outlives_its_extraction(tiny_ave, tmp_path, end, workers):
    goods = [tiny_ave.video(name) for name in tiny_ave.ids]
    root = bad_media.write_dataset(tmp_path / "data", [*HANGS, *(path.stem for path in goods[:6])], goods)
    (tmp_path / "temporary").mkdir()
    command = [AVPIPE, "extract", "--dataset", "ave", "--root", root, "--cache", tmp_path / "cache", *extracting.STUB]
    process = subprocess.Popen(
        [*map(str, command), "--decoders", "2", "--workers", str(workers), "--unit-segments", "20"],
        cwd=tmp_path,
        env={**os.environ, **bad_media.STUBBED, "TMPDIR": str(tmp_path / "temporary")},
        stderr=(tmp_path / "stderr").open("w"),
        start_new_session=True,
    )
    try:
        extracting.until(lambda: len(list(root.rglob("*.hangs"))) == 2 or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2 * workers
        stop, code = ENDS[end]
        stop(process)
        assert process.wait(30) == code or code is None, (tmp_path / "stderr").read_text()
    finally:
        process.kill()
    assert not alive({child.pid for child in family})
    left = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert left <= ({"dask-scratch-space"} if workers > 1 else set())  # Dask clears it up when it starts again
    assert not list(tmp_path.glob("core*"))
