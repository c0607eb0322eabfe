"""How long a decoder process may take: time by the clock, but not the time for which it had no processor.

On a machine that others load, a sound clip waits for a core many times longer than it is decoded. A decoder that
hangs does not wait for one: it sleeps, or it runs.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

MOST_TIMES = 5
"""By how many times its length a deadline is put off at most."""


class Deadline:
    """A point in time that lies further away the longer a process waits for a processor.

    Args:
        seconds: time that is left now.
        pid: the process; None for a deadline by the clock alone.
    """

    def __init__(self, seconds: float, pid: int | None = None) -> None:
        self._seconds, self._end, self._pid = seconds, time.monotonic() + seconds, pid
        self._before = {} if pid is None else _waited_seconds(pid)

    def left(self) -> float:
        """Seconds that are left, below or at 0 when time is over."""
        left = self._end - time.monotonic()
        if left <= 0 and self._pid is not None:
            since = [waited - self._before.get(thread, 0.0) for thread, waited in _waited_seconds(self._pid).items()]
            left += min(max(since, default=0.0), (MOST_TIMES - 1) * self._seconds)
        return left


def _waited_seconds(pid: int) -> dict[str, float]:
    """For how long each thread of a process was ready to run and did not; empty where the system does not tell."""
    found = {}
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            found[file.parent.name] = int(file.read_text().split()[1]) / 1e9
    return found
