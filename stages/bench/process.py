"""Work in a fresh interpreter, so that one measurement leaves nothing behind for the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_a_process(folder: Path, order: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Runs an order of `child.py`, and waits.

    Args:
        folder: where its files go.
        order: JSON-ready; `do` says what to do.

    Returns:
        what it gave; or None, and why in one line.
    """
    asked, result, said = folder / "order.json", folder / "result.json", folder / "errors.txt"
    asked.write_text(json.dumps(order))
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "avpipe.stages.bench.child", str(asked), str(result), str(os.getpid())]
    with said.open("wb") as errors:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, check=False).returncode
    if code == 0:
        return json.loads(result.read_text()), ""
    lines = said.read_text(errors="replace").strip().splitlines()
    killed = f"killed by signal {-code}{', as where memory runs out' if code == -9 else ''}"
    return None, killed if code < 0 else (lines[-1] if lines else f"ended with {code}")
