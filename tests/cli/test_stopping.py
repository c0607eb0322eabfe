"""What a command says that was stopped: Ctrl-C twice, and SIGTERM or Ctrl-C to a benchmark."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

START = """
import os, signal
from avpipe.cli import render
from avpipe.pipeline.interrupt import Interrupt
from avpipe.pipeline.lifetime import orderly_end
render.install_reporter()
"""
TWICE = "with Interrupt() as interrupt:\n  os.kill(os.getpid(), 2); assert interrupt.asked(); os.kill(os.getpid(), 2)"
ONCE = "with Interrupt() as interrupt:\n  os.kill(os.getpid(), 2)"
BENCH = "with orderly_end():\n  os.kill(os.getpid(), {}); signal.pause()"
BY_ITSELF = "with orderly_end():\n  pass"


@pytest.mark.parametrize(
    ("block", "code", "said"),
    [
        (TWICE, -signal.SIGINT, "stopped; what was committed is kept: run the same command again to go on"),
        (ONCE, 0, "interrupted: finishing the open unit; press Ctrl-C again to stop now"),
        (BENCH.format(2), -signal.SIGINT, "interrupted: stopped before it was done; its files are deleted"),
        (BENCH.format(15), 143, "told to end (SIGTERM): stopped before it was done; its files are deleted"),
        (BY_ITSELF, 0, None),
    ],
)
def test_it_says_that_it_stopped(block, code, said):
    done = subprocess.run([sys.executable, "-c", START + block], capture_output=True, text=True, timeout=60)
    own = [line for line in done.stderr.partition("Traceback")[0].splitlines() if line]
    assert (done.returncode, own[-1] if own else None) == (code, said)
