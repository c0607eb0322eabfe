"""Time by the clock and of the processor, of this process with all that it starts, and of everybody else."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from avpipe.pipeline.doctor import cores

NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")
"""Kinds of the machine's time in which it does nothing, or that other kinds contain."""


def processor_seconds() -> float:
    """Processor time of this process and of all that it has started, living or ended, seconds."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended just now
            total += sum(child.cpu_times()[:4])  # its own and that of its ended children, user and system
    return total


def machine_seconds() -> float | None:
    """Processor time of all processes of this machine, seconds; None where this process may not use all its cores."""
    if psutil.cpu_count() != cores():
        return None
    spent = psutil.cpu_times()
    return float(sum(getattr(spent, kind) for kind in spent._fields if kind not in NOT_BUSY))


@dataclass(slots=True)
class Stopwatch:
    """Seconds that blocks take, summed.

    Attributes:
        clock: gives processor seconds: with those of child processes, or `time.process_time`, which costs nothing.
        wall: by the clock.
        cpu: of the processor.
        others: of the processor, all other processes; None where that is not known.
    """

    clock: Callable[[], float] = processor_seconds
    wall: float = 0.0
    cpu: float = 0.0
    others: float | None = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the block."""
        machine, cpu, wall = machine_seconds(), self.clock(), time.perf_counter()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            ours, everybody = self.clock() - cpu, machine_seconds()
            self.cpu += ours
            if machine is None or everybody is None or self.others is None:
                self.others = None
            else:
                self.others += everybody - machine - ours

    def figures(self, stage: str) -> dict[str, float]:
        """`<stage>_alone_s` and `<stage>_cpu_s`."""
        return {f"{stage}_alone_s": self.wall, f"{stage}_cpu_s": self.cpu}

    def others_share(self) -> float | None:
        """What other processes took of the time of all cores, 0 to 1; None where that is not known."""
        if self.others is None or not self.wall:
            return None
        return max(0.0, self.others) / (self.wall * cores())
