"""Where stage one runs: in this process, or on the workers of a Dask cluster.

The functions here are what an executor calls. Each process keeps one runner with its loaded backbones; a worker with
several threads runs one task at a time, to its end, since a backbone and a decoder pool serve one at a time. So several
extractions may share the workers of one scheduler: a runner is closed only when no unit of it is open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

from avpipe.pipeline.cache import UnitWork
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.stages.extract_unit import UnitRunner
from avpipe.stages.job import ExtractJob
from avpipe.stages.lookahead import Ahead
from avpipe.stages.outcome import UnitOutcome

Take = Callable[[], "tuple[Any, ...] | None"]
"""Gives the next task, None where there is none just now."""

_lock = threading.RLock()
_runner: tuple[ExtractJob, UnitRunner] | None = None
_unwanted = threading.Event()
"""Set where the runner is to be closed as soon as no task runs."""


def runner_of(job: ExtractJob) -> UnitRunner:
    """This process's runner of the job; an older job's runner is closed, once its open unit is committed."""
    global _runner
    with _lock:
        if _runner is None or _runner[0] != job:
            if _runner is not None:
                _runner[1].finish()
            close_runner()
            _runner = (job, UnitRunner(job))
        return _runner[1]


def close_runner() -> None:
    """Closes this process's runner now, if it has one: its decoders end, its weights and an open unit are let go of."""
    global _runner
    with _lock:
        if _runner is not None:
            _runner[1].close()
            _runner = None


def release_runner() -> None:
    """Closes this process's runner as soon as no task runs. Does not wait for that: a worker's event loop calls it."""
    _unwanted.set()
    if _lock.acquire(blocking=False):  # else the task that runs looks at `_unwanted` at its end
        try:
            _unwanted.clear()
            close_runner()
        finally:
            _lock.release()


@contextmanager
def _task() -> Iterator[None]:
    """Around what a worker runs: one at a time, to its end. Not to be nested."""
    try:
        with _lock:
            yield
    finally:
        if _unwanted.is_set():
            release_runner()


def weights_of(job: ExtractJob, decoders_too: bool = False) -> dict[str, str]:
    """Loads the backbones: sha256 of their weights by modality. `decoders_too`: these get ready meanwhile."""
    with _task():
        if decoders_too:
            runner_of(job).source.warm_up(frozenset(job.modalities))
        return runner_of(job).weights()


def measure(job: ExtractJob, clips: Sequence[Clip]) -> float | None:
    """Seconds of work for one segment, measured on the first of `clips` that decodes; None where none does."""
    with _task():
        runner = runner_of(job)
        for clip in clips:
            try:
                media = runner.source.decode(clip, frozenset(job.modalities))
            except InputRejected:
                continue
            runner.tokens(media.values)  # the first call allocates and warms up
            begun = time.perf_counter()
            runner.tokens(media.values)
            return (media.seconds["decode"] + time.perf_counter() - begun) / max(1, clip.segments)
        return None


def claim_unit(job: ExtractJob, work: UnitWork) -> UnitWork | UnitOutcome:
    """Claims a unit for this process; see `UnitRunner.claim`."""
    with _lock:
        return runner_of(job).claim(work)


def begin_unit(
    job: ExtractJob,
    work: UnitWork,
    clips: Mapping[str, Clip],
    expected: Mapping[str, str],
    ahead: Ahead = lambda: None,
    on_clip: Callable[[str, bool], None] = lambda clip, rejected: None,
) -> Future[UnitOutcome]:
    """Extracts one unit in this process, which is committed after this returns; see `UnitRunner.begin`."""
    with _lock:
        return runner_of(job).begin(work, clips, expected, ahead=ahead, on_clip=on_clip)


def run_unit(job: ExtractJob, work: UnitWork, clips: Mapping[str, Clip], expected: Mapping[str, str]) -> UnitOutcome:
    """Extracts and commits one unit in this process; whoever else comes for this process waits meanwhile."""
    with _task():
        return begin_unit(job, work, clips, expected).result()


class Executor(Protocol):
    """Where functions run."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs one function and waits for its result."""

    def each(self, function: Callable[..., Any], take: Take, stop: Callable[[], bool]) -> Iterator[tuple[Any, Any]]:
        """Tasks and the results of `function(*task)`, as they come, until `take` has none and all have ended.

        Where this is a future, that is its result; the next task may begin before it has one, but not the second.

        Starts nothing new once `stop()` is true.
        """


class LocalExecutor:
    """Runs everything in this process."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the function."""
        return function(*args)

    def each(self, function: Callable[..., Any], take: Take, stop: Callable[[], bool]) -> Iterator[tuple[Any, Any]]:
        """Calls the function for one task after the other; while the result of one is awaited, the next is begun."""
        before: tuple[Any, Any] | None = None
        while not stop() and (task := take()) is not None:
            begun = task, function(*task)
            if before is not None:
                yield before[0], _result(before[1])
            before = begun
        if before is not None:
            yield before[0], _result(before[1])


def _result(found: Any) -> Any:
    return found.result() if isinstance(found, Future) else found


@contextmanager
def executor_for(workers: int, scheduler: str | None) -> Iterator[Executor]:
    """In this process for one worker, else on Dask. Runners are closed at the end, also on workers that live on."""
    if scheduler is None and workers <= 1:
        try:
            yield LocalExecutor()
        finally:
            close_runner()  # after an error, or a second Ctrl-C, a unit may be open: it is thrown away
        return
    from avpipe.pipeline.cluster import dask_executor

    with dask_executor(workers=workers, scheduler=scheduler, clean_up=release_runner) as executor:
        yield executor
