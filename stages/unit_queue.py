"""Units are handed out one after the other; those that other processes hold come back later."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from avpipe.pipeline import progress
from avpipe.pipeline.cache import UnitWork
from avpipe.pipeline.manifest import Clip
from avpipe.stages.executors import Executor, LocalExecutor, begin_unit, claim_unit, run_unit
from avpipe.stages.job import ExtractJob
from avpipe.stages.outcome import UnitOutcome

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 1.0
"""How long a unit that another process holds is left alone: at first, and after some doublings."""
WAIT_SECONDS = 0.05
"""Between two looks at whether to stop, while other processes hold all that is left."""
QUIET_SECONDS = 1.0
"""Waits that are shorter are not spoken of."""


class UnitTask(NamedTuple):
    """The arguments of `executors.run_unit`.

    Attributes:
        job: the extraction.
        work: the unit: its clips and the arrays that it lacks.
        clips: media by clip id, of those clips that the dataset has.
        expected: sha256 of the weights by modality.
    """

    job: ExtractJob
    work: UnitWork
    clips: Mapping[str, Clip]
    expected: Mapping[str, str]


class UnitQueue:
    """Tasks in order; then those that were put back: once at the end, from then on after pauses that grow."""

    def __init__(self, tasks: Iterable[UnitTask]) -> None:
        self._waiting = deque(tasks)
        self._held: deque[tuple[float, UnitTask, str]] = deque()  # when to try again, the task, who has its unit
        self._pauses: dict[int, float] = {}

    def take(self) -> UnitTask | None:
        """The next task; None where there is none just now."""
        if self._waiting:
            return self._waiting.popleft()
        now = time.monotonic()
        for place, (due, task, _) in enumerate(self._held):
            if due <= now:
                del self._held[place]
                return task
        return None

    def put_first(self, task: UnitTask) -> None:
        """Makes a task the next one."""
        self._waiting.appendleft(task)

    def put_back(self, task: UnitTask, holder: str) -> None:
        """Puts a task aside whose unit the writer `holder` holds."""
        pause = 0.0  # what is put back before the end of the queue may well be done when that comes
        if not self._waiting:
            pause = min(2 * self._pauses.get(task.work.unit, FIRST_RETRY_SECONDS / 2), LAST_RETRY_SECONDS)
            self._pauses[task.work.unit] = pause
        self._held.append((time.monotonic() + pause, task, holder))

    @property
    def holders(self) -> list[str]:
        """The writers that hold what is left, where nothing else is left; one entry a unit."""
        return [] if self._waiting else [holder for _, _, holder in self._held]


def run_tasks(
    tasks: Iterable[UnitTask], executor: Executor, stop: Callable[[], bool], shown: progress.Task
) -> list[UnitOutcome]:
    """Runs tasks, and waits for those that other processes are at.

    Args:
        tasks: units to do, in order.
        executor: where they run.
        stop: whether to begin nothing more.
        shown: counts clips.

    Returns:
        an outcome for each task, or for those that were begun before `stop()`.
    """
    run = _Run(UnitQueue(tasks), shown, stop)
    local = isinstance(executor, LocalExecutor)
    idle_since: float | None = None
    told = False
    while True:
        for task, outcome in executor.each(run.here if local else run_unit, run.queue.take, stop):
            run.settle(task, outcome, count=not local)
        if stop() or not run.queue.holders:
            return run.outcomes
        idle_since = idle_since or time.monotonic()
        if not told and time.monotonic() - idle_since > QUIET_SECONDS:
            told = True
            progress.say(_waiting(run.queue.holders))
        time.sleep(WAIT_SECONDS)


class _Run:
    """Units under way, and what became of those that ended."""

    def __init__(self, queue: UnitQueue, shown: progress.Task, stop: Callable[[], bool]) -> None:
        self.queue, self._shown, self._stop = queue, shown, stop
        self.outcomes: list[UnitOutcome] = []
        self._rejected = 0
        self._counting = threading.Lock()

    def settle(self, task: UnitTask, outcome: UnitOutcome, *, count: bool) -> None:
        """Takes in what became of a task. `count`: its clips have not been counted one by one."""
        if outcome.holder:
            self.queue.put_back(task, outcome.holder)
            return
        self.outcomes.append(outcome)
        if count or not outcome.seconds:  # nothing was done, so nothing was counted
            self._advance(len(task.work.clips), len(outcome.rejected))

    def here(
        self, job: ExtractJob, work: UnitWork, clips: Mapping[str, Clip], expected: Mapping[str, str]
    ) -> Future[UnitOutcome]:
        """`begin_unit` in this process: counts clip by clip, and decodes ahead into the next unit."""
        return begin_unit(job, work, clips, expected, self._ahead, on_clip=self._count)

    def _count(self, clip: str, rejected: bool) -> None:
        self._advance(1, int(rejected))

    def _advance(self, clips: int, rejected: int) -> None:
        with self._counting:  # clips are counted where they are written, in another thread
            self._rejected += rejected  # named in the summary, with what was rejected before
            self._shown.advance(clips, f"{self._rejected} quarantined" if self._rejected else "")

    def _ahead(self) -> tuple[UnitWork, Mapping[str, Clip]] | None:
        """Claims the next unit that can be claimed, and makes it the next task; none once it is to stop."""
        while not self._stop() and (task := self.queue.take()) is not None:
            claimed = claim_unit(task.job, task.work)
            if isinstance(claimed, UnitWork):
                self.queue.put_first(task)
                return claimed, task.clips
            self.settle(task, claimed, count=True)
        return None


def _waiting(holders: Sequence[str]) -> str:
    units = "the last unit is" if len(holders) == 1 else f"the last {len(holders)} units are"
    return (
        f"{units} in the hands of {', '.join(sorted(set(holders)))}: waiting, and taking over what they leave "
        "(Ctrl-C leaves it to them)"
    )
