"""How busy each stage of an extraction was: seconds of work by stage and clip, added up over units and processes.

A stage is busy while it works on a clip, and not while it waits for one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("decode", "read", "backbone", "encode", "write", "commit")
"""In the order in which a clip goes through them; `read` is for media that the cache has, in place of `decode`."""
STEP = 1.02
"""Ratio of neighbouring bins of the histograms: quantiles are exact to about 1 %."""
IDLE_SHARE = 0.5
"""Where no stage is busy for more than this, none of them is what the run waited for."""

ADVICE = {
    "decode": "more cores, and as many --decoders, help; so do videos of a smaller picture",
    "read": "a faster disk under the cache helps",
    "backbone": "a faster --device, a lower --precision or --compile help; more decoders do not",
    "encode": "a faster processor helps, and fewer --layers",
    "write": "a faster disk under the cache helps, and fewer --layers",
    "commit": "larger units (--unit-segments of a new cache) or a faster disk help",
}
"""What to do about a stage that all others wait for. `docs/extracting.md` has the same words."""


@dataclass
class Durations:
    """Durations of one kind of work; of constant size however many there are.

    Attributes:
        seconds: their sum.
        bins: how many there are by the logarithm of their length to the base `STEP`, rounded.
    """

    seconds: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Takes in one."""
        self.seconds += seconds
        self.bins[round(math.log(max(seconds, 1e-6), STEP))] += 1

    def merge(self, other: Durations) -> None:
        """Takes in all of another one."""
        self.seconds += other.seconds
        self.bins.update(other.bins)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.bins.total()

    def quantile(self, share: float) -> float:
        """The shortest duration that at least `share` of them do not exceed, in seconds, to about 1 %."""
        left = share * self.count
        for number in sorted(self.bins):
            left -= self.bins[number]
            if left <= 0:
                return float(STEP**number)
        return 0.0


class StageClock:
    """Durations by stage; any thread may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.stages: dict[str, Durations] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes, unless it ends with an error."""
        begun = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        """Adds one duration."""
        with self._lock:
            self.stages.setdefault(stage, Durations()).add(seconds)

    def seconds(self) -> dict[str, float]:
        """Seconds so far by stage."""
        with self._lock:
            return {stage: durations.seconds for stage, durations in self.stages.items()}


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage of an extraction.

    Attributes:
        name: one of `STAGES`.
        lanes: how many clips it can work on at once, over all processes.
        clips: how many it worked on; units for `commit`.
        busy_seconds: time that its lanes were at work, added up.
        busy_share: that, as a part of the time that they had: wall time times lanes.
        p50_ms, p99_ms: time for one clip (`commit`: one unit), median and 99th percentile, to about 1 %.
    """

    name: str
    lanes: int
    clips: int
    busy_seconds: float
    busy_share: float
    p50_ms: float
    p99_ms: float


def stage_reports(
    parts: Iterable[Mapping[str, Durations]], lanes: Mapping[str, int], wall_seconds: float
) -> tuple[StageReport, ...]:
    """Sums up what clocks say, stages without work left out.

    Args:
        parts: durations by stage, of one unit each, say.
        lanes: of each stage, over all processes; 1 where it is not named.
        wall_seconds: time in which all of it happened.
    """
    merged: dict[str, Durations] = {}
    for part in parts:
        for stage, durations in part.items():
            merged.setdefault(stage, Durations()).merge(durations)
    found = []
    for stage in (stage for stage in STAGES if stage in merged):
        all_of_it, width = merged[stage], lanes.get(stage, 1)
        share = all_of_it.seconds / (wall_seconds * width) if wall_seconds > 0 else 0.0
        p50, p99 = (1000 * all_of_it.quantile(share_of_clips) for share_of_clips in (0.5, 0.99))
        found.append(StageReport(stage, width, all_of_it.count, all_of_it.seconds, share, p50, p99))
    return tuple(found)


def bottleneck(stages: Iterable[StageReport]) -> str | None:
    """Name of the busiest stage; None where none is busy for half of the time, or there was nothing to do."""
    busiest = max(stages, key=lambda stage: stage.busy_share, default=None)
    return busiest.name if busiest is not None and busiest.busy_share >= IDLE_SHARE else None
