"""Memory of this process as Linux counts it.

`getrusage` is of no use here: its maximum is inherited from the process that started this one.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from avpipe.pipeline.errors import EnvironmentLacking

STATUS = Path("/proc/self/status")
SAMPLE_SECONDS = 0.02


def resident(field: str) -> float:
    """A field of `/proc/self/status` in MiB.

    Args:
        field: `VmRSS` (resident now), `VmHWM` (most so far), `RssAnon` (resident now, without pages of files).

    Raises:
        EnvironmentLacking: this system does not say.
    """
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    raise EnvironmentLacking(f"memory of a process is read from {STATUS} ({field}), which is not there: use Linux")


class Watch:
    """The most memory that is resident while the block runs, MiB.

    Attributes:
        base, base_anon: resident when the block began; `anon` without pages of files, such as those of a mapped cache.
        peak, peak_anon: the most since then. `peak` is the kernel's own maximum, `peak_anon` is sampled.
    """

    def __enter__(self) -> Watch:
        with suppress(OSError):  # not allowed everywhere; the maximum so far, of the imports, then stays in it
            Path("/proc/self/clear_refs").write_text("5")
        self.base, self.base_anon = resident("VmRSS"), resident("RssAnon")
        self.peak, self.peak_anon = self.base, self.base_anon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, resident("VmHWM"))

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_anon = max(self.peak_anon, resident("RssAnon"))
