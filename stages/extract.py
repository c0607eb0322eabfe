"""Stage one: from a dataset on disk to a cache of every tapped layer's tokens.

    resolve -> open or create the cache -> declare the fingerprints -> plan units -> run what is pending -> summary

Nothing here imports torch; the units do, where there is anything to extract.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline import plan, progress
from avpipe.pipeline.cache import CacheWriter, Plan, Quarantined, UnitWork, open_cache
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.datasets import longest_clip
from avpipe.pipeline.interrupt import Interrupt
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.media.decode import signature
from avpipe.stages.executors import Executor, LocalExecutor, executor_for, measure, run_unit, weights_of
from avpipe.stages.extract_unit import UnitOutcome
from avpipe.stages.job import ExtractJob

PROBED_CLIPS = 3
"""Clips that are tried for measuring the speed of this machine."""


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        cache: folder of the cache.
        clips: clips of the dataset that are complete in the cache now.
        extracted: of these, extracted by this run.
        left: clips still to do (after an interruption, or in the hands of other processes).
        quarantined: clips that cannot be used, with stage, reason and hint.
        seconds: wall time of this run.
        work_seconds: work by kind, summed over processes.
    """

    cache: Path
    clips: int
    extracted: int
    left: int
    quarantined: tuple[Quarantined, ...]
    seconds: float
    work_seconds: dict[str, float]


def extract(
    dataset: Dataset,
    job: ExtractJob,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    unit_segments: int | None = None,
    retry: bool = False,
) -> ExtractSummary:
    """Extracts what the cache lacks of a dataset; safe to kill and to run again at any time.

    Args:
        dataset: clips and timeline.
        job: the resolved extraction (`avpipe.stages.job.resolve`).
        workers: processes; more than one starts a local Dask cluster.
        scheduler: address of a running Dask scheduler, in place of `workers`.
        unit_segments: rows of one unit in a new cache; None measures and plans them.
        retry: try quarantined clips again. Those whose files changed are tried again in any case.

    Raises:
        CacheMismatch: the cache was made with other weights, preprocessing or timeline.
    """
    begun = time.monotonic()
    ready = _open_ready(dataset, job, retry)
    if ready is not None and not ready.plan.pending:
        return _summary(dataset, job, ready.plan, [], begun)
    with Interrupt() as interrupt, executor_for(workers, scheduler) as executor:
        if ready is None:
            ready = _prepare(dataset, job, executor, unit_segments, retry)
        outcomes = _run(job, ready, {clip.id: clip.absolute() for clip in dataset.clips}, executor, interrupt)
    return _summary(dataset, job, ready.plan, outcomes, begun)


@dataclass(frozen=True)
class _Ready:
    """A planned extraction: what is pending, and the weights that the cache expects."""

    plan: Plan
    expected: dict[str, str]


def _open_ready(dataset: Dataset, job: ExtractJob, retry: bool) -> _Ready | None:
    """Plans on an existing cache without loading weights, or None where they must be loaded to be compared."""
    if not is_cache(job.cache):
        return None
    specs, expected = open_cache(job.cache).specs, {}
    for modality in job.modalities:
        if modality not in specs or specs[modality].request != job.request(modality):
            return None
        expected[modality] = specs[modality].fields["weights"]["sha256"]
    return _declare_and_plan(CacheWriter.open(job.cache), dataset, job, expected, retry)


def _prepare(dataset: Dataset, job: ExtractJob, executor: Executor, unit_segments: int | None, retry: bool) -> _Ready:
    """Loads the weights, creates the cache where there is none, and plans."""
    expected = executor.call(weights_of, job)
    if is_cache(job.cache):
        writer = CacheWriter.open(job.cache)
    else:
        if unit_segments is None:
            seconds = executor.call(measure, job, [clip.absolute() for clip in dataset.clips[:PROBED_CLIPS]])
            row_bytes = sum(array.row_bytes for array in job.arrays())
            unit_segments = plan.unit_rows([clip.segments for clip in dataset.clips], row_bytes, seconds)
            unit_segments = max(unit_segments, longest_clip(dataset.name))  # a subset that comes later must fit
        about = {"name": dataset.name, "root": str(dataset.root.resolve())}
        writer = CacheWriter.create(job.cache, dataset=about, unit_rows=unit_segments)
    return _declare_and_plan(writer, dataset, job, expected, retry)


def _declare_and_plan(
    writer: CacheWriter, dataset: Dataset, job: ExtractJob, expected: dict[str, str], retry: bool
) -> _Ready:
    for modality in job.modalities:
        writer.declare(modality, job.fields(modality, expected[modality]), job.request(modality))
    clips = [(clip.id, clip.segments, signature(clip)) for clip in dataset.clips]
    planned = writer.plan(clips, job.arrays(), retry=retry)
    if planned.changed:
        progress.say(
            f"the files of {len(planned.changed)} cached clips have changed since, such as {planned.changed[0]!r}: "
            "the cache keeps what it has; extract into another --cache to have them anew"
        )
    return _Ready(planned, expected)


def _run(
    job: ExtractJob, ready: _Ready, clips: dict[str, Clip], executor: Executor, interrupt: Interrupt
) -> list[UnitOutcome]:
    """Runs the pending units and reports progress."""
    pending = ready.plan.pending
    total = ready.plan.done + sum(len(work.clips) for work in pending)
    tasks = [(job, work, {c.id: clips[c.id] for c in work.clips if c.id in clips}, ready.expected) for work in pending]
    outcomes: list[UnitOutcome] = []
    with progress.task("extract", total, "clips", ready.plan.done) as shown:
        local = isinstance(executor, LocalExecutor)
        function = _local_unit(shown, tasks) if local else run_unit
        for outcome in executor.each(function, tasks, interrupt.asked):
            outcomes.append(outcome)
            if not local:
                shown.advance(len(outcome.clips) + len(outcome.rejected))
            for clip, reason in outcome.rejected.items():
                progress.say(f"quarantined {clip}: {reason}")
    return outcomes


def _local_unit(shown: progress.Task, tasks: Sequence[tuple[Any, ...]]) -> Callable[..., UnitOutcome]:
    """`run_unit` in this process: with progress clip by clip, and decoding ahead into the next unit."""
    following = {tasks[i][1].unit: list(tasks[i + 1][2].values()) for i in range(len(tasks) - 1)}

    def run(job: ExtractJob, work: UnitWork, clips: dict[str, Clip], expected: dict[str, str]) -> UnitOutcome:
        ahead = following.get(work.unit, [])
        return run_unit(job, work, clips, expected, ahead, on_clip=lambda clip: shown.advance(1))

    return run


def _summary(
    dataset: Dataset, job: ExtractJob, planned: Plan, outcomes: Sequence[UnitOutcome], begun: float
) -> ExtractSummary:
    cache, ours = open_cache(job.cache), {clip.id for clip in dataset.clips}
    work: dict[str, float] = {}
    for outcome in outcomes:
        for kind, seconds in outcome.seconds.items():
            work[kind] = work.get(kind, 0.0) + seconds
    pending = sum(len(unit.clips) for unit in planned.pending)
    return ExtractSummary(
        cache=job.cache,
        clips=len(ours & cache.clips([array.name for array in job.arrays()]).keys()),
        extracted=sum(len(outcome.clips) for outcome in outcomes if outcome.won),
        left=pending - sum(len(outcome.clips) + len(outcome.rejected) for outcome in outcomes),
        quarantined=tuple(entry for entry in cache.quarantined() if entry.clip in ours),
        seconds=time.monotonic() - begun,
        work_seconds=work,
    )
