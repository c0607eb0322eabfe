"""What `pytest --side-by-side` tells of the second process: its failures and skips, and that it died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
FIRST = """
import time
from pathlib import Path
import pytest

def test_waits_for_the_other_process():
    end = time.monotonic() + 60
    while not Path("there").exists():
        assert time.monotonic() < end
        time.sleep(0.01)

def test_keeps_the_next_module_free_until_now(): pass

@pytest.mark.alone
def test_comes_last():
    assert Path("finished").exists()
"""
SECOND = """
import os, time
from pathlib import Path
import pytest

def test_begins():
    Path("there").touch()
    time.sleep(0.5)

def test_is_wrong():
    print("what it", "printed")
    assert "red" == "green"

@pytest.mark.skip(reason="not today")
def test_is_left_out(): pass

def test_ends():
    if {dies}:
        os._exit(7)
    Path("finished").touch()
"""


def run(folder: Path, dies: bool) -> tuple[int, str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone: as in the project\n")
    (folder / "test_first.py").write_text(FIRST)
    (folder / "test_second.py").write_text(SECOND.format(dies=dies))
    command = [Path(sys.executable).with_name("pytest"), "-q", "-ra", "-p", "side_by_side", "--side-by-side"]
    env = {**os.environ, "PYTHONPATH": str(TOOLS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


def test_reports_of_both_are_told_once(tmp_path):
    code, said = run(tmp_path, dies=False)
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "1 failed, 5 passed, 1 skipped" in said
    assert said.count("what it printed") == 1
    assert "FAILED test_second.py::test_is_wrong" in said
    assert "not today" in said


def test_a_process_that_dies_is_a_failure(tmp_path):
    code, said = run(tmp_path, dies=True)
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "the second process ended with 7 at test_second.py::test_ends" in said
    assert "1 failed, 3 passed, 1 skipped" in said
