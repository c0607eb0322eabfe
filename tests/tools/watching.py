"""Watching a process and its family from outside: memory that it keeps, zombies, and what it leaves behind."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import psutil


class Watch:
    """Samples of a process and its descendants until it ends.

    Attributes:
        anonymous: `(seconds, MB)` of anonymous memory of the process, not of mapped files.
        children: the same of each descendant, by process id.
        zombies: descendants that were seen dead and unreaped for longer than `patience` seconds.
    """

    def __init__(self, process: subprocess.Popen, interval: float = 0.1, patience: float = 1.0) -> None:
        self.anonymous: list[tuple[float, float]] = []
        self.children: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self.zombies: set[int] = set()
        dead: dict[int, float] = {}
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            now = time.monotonic()
            with contextlib.suppress(psutil.Error, OSError):
                self.anonymous.append((now, _anonymous_mb(parent.pid)))
                family = {child.pid: child.status() for child in parent.children(recursive=True)}
                for pid, status in family.items():
                    if status == psutil.STATUS_ZOMBIE:
                        if now - dead.setdefault(pid, now) > patience:
                            self.zombies.add(pid)
                    else:
                        self.children[pid].append((now, _anonymous_mb(pid)))
            time.sleep(interval)

    def growth_mb(self) -> float:
        """By how much the process grew from the second quarter of its life to the last one, by medians."""
        return _growth(self.anonymous)

    def growth_of_children_mb(self, seconds: float = 20.0) -> float:
        """The same of the child that grew most, of those that lived long."""
        lives = [samples for samples in self.children.values() if samples[-1][0] - samples[0][0] > seconds]
        return max((_growth(samples) for samples in lives), default=0.0)


def _growth(samples: list[tuple[float, float]]) -> float:
    quarter = len(samples) // 4
    values = [value for _, value in samples]
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])


def _anonymous_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def alive(pids: Iterable[int], seconds: float = 5.0) -> set[int]:
    """Which of these processes still live after so many seconds at most; those that are only not reaped do not."""
    end = time.monotonic() + seconds
    while living := {pid for pid in pids if _lives(pid)}:
        if time.monotonic() >= end:
            break
        time.sleep(0.05)
    return living


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
