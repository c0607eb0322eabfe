"""`steps.jsonl`: the loss of every step of a run, as it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType


class StepLog:
    """Appends a line for each step; what was logged behind the checkpoint that a run goes on from is dropped.

    Args:
        path: the file.
        kept: lines to keep of what is there.

    Attributes:
        lines: lines that the file has.
    """

    def __init__(self, path: Path, kept: int) -> None:
        self.lines = _truncate(path, kept)
        self._file = path.open("a", encoding="utf-8", buffering=1)  # a line is one write: seen at once, never torn

    def add(self, epoch: int, step: int, loss: float, lr: float) -> None:
        """Logs a step, counted from 1 within its epoch."""
        self._file.write(json.dumps({"epoch": epoch, "step": step, "loss": loss, "lr": lr}) + "\n")
        self.lines += 1

    def sync(self) -> None:
        """Brings what is logged to the disk, before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _truncate(path: Path, kept: int) -> int:
    """Cuts a file behind its first `kept` lines; returns how many there are."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        count = 0
        while count < kept and file.readline().endswith(b"\n"):
            count += 1
            end = file.tell()
        file.truncate(end if count else 0)
    return count
