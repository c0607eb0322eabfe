"""Stage one: from a dataset on disk to a cache of every tapped layer's tokens.

    resolve -> open or create the cache -> declare the fingerprints -> plan units -> run what is pending -> summary

Several extractions may run on one cache at once: they share the units by leases. Nothing here imports torch; the units
do, where there is anything to extract.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from avpipe.pipeline import plan, progress, quarantine_table
from avpipe.pipeline.cache import CacheWriter, Plan, Quarantined, open_cache
from avpipe.pipeline.cache.compact import compact, wanted
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.cache.planner import ClipRequest, nothing_left
from avpipe.pipeline.cache.spec import refuse_mixture
from avpipe.pipeline.datasets import longest_clip
from avpipe.pipeline.datasets.origin import origin_of
from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.interrupt import Interrupt
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.decode import signature
from avpipe.stages.clip_media import decoders_of
from avpipe.stages.executors import Executor, executor_for, measure, weights_of
from avpipe.stages.job import ExtractJob
from avpipe.stages.outcome import UnitOutcome
from avpipe.stages.stage_clock import STAGES, StageReport, bottleneck, stage_reports
from avpipe.stages.unit_queue import UnitTask, run_tasks

PROBED_CLIPS = 3
"""Clips that are tried for measuring the speed of this machine."""


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did.

    Attributes:
        cache: folder of the cache.
        clips: clips of the dataset that are complete in the cache now.
        extracted: of these, extracted by this run.
        left: clips still to do, after an interruption.
        quarantined: clips that cannot be used, with stage, reason and hint.
        seconds: wall time of this run.
        wall_seconds: of these, from the first clip handed to a decoder to the last commit.
        work_seconds: work by stage, summed over processes, and `wait`: how long backbones waited for media.
        stages: how busy each stage was in `wall_seconds`; empty where nothing was done.
        stand_ins: cached clips of the dataset without any real sound or pictures, see `pipeline.cache.summary`.
        bottleneck: name of the busiest stage; None where none was busy for half of the time.
    """

    cache: Path
    clips: int
    extracted: int
    left: int
    quarantined: tuple[Quarantined, ...]
    seconds: float
    wall_seconds: float
    work_seconds: dict[str, float]
    stages: tuple[StageReport, ...]
    bottleneck: str | None
    stand_ins: dict[str, int]


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

    Where other processes extract into the same cache, each unit is done by one of them, and this returns when all are
    done. A cache that lacks nothing may be one that cannot be written.

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
    job = replace(job, decoders=_decoders(job, len(dataset.clips), workers, scheduler))
    ledger = Ledger(Layout(job.cache)) if is_cache(job.cache) else None
    expected = _expected_weights(job, ledger) if ledger else None
    outcomes: list[UnitOutcome] = []
    left = 0
    if not (ledger and expected and _lacks_nothing(dataset, job, ledger, expected, retry)):
        with Interrupt() as interrupt, executor_for(workers, scheduler) as executor:
            expected = expected or executor.call(weights_of, job, ledger is None)
            _create(dataset, job, executor, unit_segments)
            outcomes, left = _rounds(dataset, job, expected, executor, interrupt, retry)
        ledger = Ledger(Layout(job.cache))
        _compact_if_worth_it(ledger)
    if ledger:
        quarantine_table.keep(ledger, dataset)
    return _summary(dataset, job, outcomes, left, begun)


def _decoders(job: ExtractJob, clips: int, workers: int, scheduler: str | None) -> int:
    """Decoders of each process; on a scheduler's workers, of which nothing is known here, they decide themselves."""
    return min(job.decoders, clips) if scheduler else decoders_of(job, workers, clips)


def _compact_if_worth_it(ledger: Ledger) -> None:
    """Indexes the ledger where many units have been committed since the last time, so that it opens fast."""
    if wanted(ledger, ledger.compaction):
        compact(ledger.layout, ledger)


def _expected_weights(job: ExtractJob, ledger: Ledger) -> dict[str, str] | None:
    """sha256 of the weights by modality as the cache has them; None where they must be loaded to be compared."""
    specs = ledger.specs
    for modality in job.modalities.keys() & specs.keys():
        if specs[modality].imported:  # said before any weights are loaded
            refuse_mixture(specs[modality], job.cache)
    if any(m not in specs or specs[m].request != job.request(m) for m in job.modalities):
        return None
    return {modality: specs[modality].fields["weights"]["sha256"] for modality in job.modalities}


def _lacks_nothing(dataset: Dataset, job: ExtractJob, ledger: Ledger, expected: Mapping[str, str], retry: bool) -> bool:
    """Whether there is nothing to do. Decided from the ledger alone: the cache may be one that cannot be written."""
    fields = {modality: job.fields(modality, sha256) for modality, sha256 in expected.items()}
    planned = nothing_left(ledger, fields, _requests(dataset), job.arrays(), retry=retry)
    if planned is None:
        return False
    _tell(planned)
    with suppress(EnvironmentLacking):  # finishes what dead writers left, where that is possible
        CacheWriter.open(job.cache).close()
    return True


def _create(dataset: Dataset, job: ExtractJob, executor: Executor, unit_segments: int | None) -> None:
    """Makes the cache where there is none, with units of a size that suits this machine."""
    if is_cache(job.cache):
        return
    if unit_segments is None:
        seconds = executor.call(measure, job, [clip.absolute() for clip in dataset.clips[:PROBED_CLIPS]])
        row_bytes = sum(array.row_bytes for array in job.arrays())
        unit_segments = plan.unit_rows([clip.segments for clip in dataset.clips], row_bytes, seconds)
        most = int(dataset.options.get("segments", 0))  # clips of a user's own table that come later must fit
        unit_segments = max(unit_segments, most, longest_clip(dataset.name))  # and so must other subsets
    CacheWriter.create(job.cache, dataset=origin_of(dataset), unit_rows=unit_segments).close()


def _rounds(
    dataset: Dataset, job: ExtractJob, expected: dict[str, str], executor: Executor, interrupt: Interrupt, retry: bool
) -> tuple[list[UnitOutcome], int]:
    """Plans and runs; once more where other processes committed some units, perhaps with fewer clips or arrays.

    Returns:
        what became of the units, and how many clips are left.
    """
    clips = {clip.id: clip.absolute() for clip in dataset.clips}
    outcomes: list[UnitOutcome] = []
    planned = _plan(dataset, job, expected, retry)
    _tell(planned)
    while planned.pending:
        tasks = [
            UnitTask(job, work, {c.id: clips[c.id] for c in work.clips if c.id in clips}, expected)
            for work in planned.pending
        ]
        left = sum(len(work.clips) for work in planned.pending)
        with progress.task("extract", planned.done + left, "clips", planned.done) as shown:
            ended = run_tasks(tasks, executor, interrupt.asked, shown)
        outcomes += ended
        if interrupt.asked():
            return outcomes, left - sum(len(outcome.clips) + len(outcome.rejected) for outcome in ended)
        if all(outcome.won for outcome in ended):
            break
        before, planned = planned, _plan(dataset, job, expected, retry=False)
        if planned.pending == before.pending:  # nobody got anywhere, and would not if it was tried again
            return outcomes, left
    return outcomes, 0


def _plan(dataset: Dataset, job: ExtractJob, expected: Mapping[str, str], retry: bool) -> Plan:
    with CacheWriter.open(job.cache) as writer:
        for modality in job.modalities:
            writer.declare(modality, job.fields(modality, expected[modality]), job.request(modality))
        return writer.plan(_requests(dataset), job.arrays(), retry=retry)


def _requests(dataset: Dataset) -> list[ClipRequest]:
    return [(clip.id, clip.segments, signature(clip)) for clip in dataset.clips]


def _tell(planned: Plan) -> None:
    """Says which clips are left as they are."""
    if planned.held_back:
        clip, arrays = min(planned.held_back.items())
        progress.say(
            f"{len(planned.held_back)} cached clips lack some of these layers and keep what they have, such as "
            f"{clip!r}: they are extracted anew only when all their layers are asked for at once "
            f"({', '.join(arrays)}), or into another --cache"
        )
    if planned.changed:
        progress.say(
            f"the files of {len(planned.changed)} cached clips have changed since, such as {planned.changed[0]!r}: "
            "the cache keeps what it has; extract into another --cache to have them anew"
        )


def _summary(
    dataset: Dataset, job: ExtractJob, outcomes: Sequence[UnitOutcome], left: int, begun: float
) -> ExtractSummary:
    cache, ours = open_cache(job.cache), {clip.id for clip in dataset.clips}
    work: dict[str, float] = {}
    for outcome in outcomes:
        for kind, seconds in outcome.seconds.items():
            work[kind] = work.get(kind, 0.0) + seconds
    wall_seconds, stages = _stages(outcomes)
    return ExtractSummary(
        cache=job.cache,
        clips=len(ours & cache.clips([array.name for array in job.arrays()]).keys()),
        extracted=sum(len(outcome.clips) for outcome in outcomes if outcome.won),
        left=left,
        quarantined=tuple(entry for entry in cache.quarantined() if entry.clip in ours),
        seconds=time.monotonic() - begun,
        wall_seconds=wall_seconds,
        work_seconds=work,
        stages=stages,
        bottleneck=bottleneck(stages),
        stand_ins=cache.stand_ins(ours),
    )


def _stages(outcomes: Sequence[UnitOutcome]) -> tuple[float, tuple[StageReport, ...]]:
    """The time in which units were worked on, and how busy each stage was, over all processes."""
    spans = [outcome.span for outcome in outcomes if outcome.span]
    if not spans:
        return 0.0, ()
    wall_seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    processes = {outcome.process: outcome.lanes for outcome in outcomes if outcome.process}
    lanes = {stage: sum(each.get(stage, 1) for each in processes.values()) for stage in STAGES}
    return wall_seconds, stage_reports((outcome.stages for outcome in outcomes), lanes, wall_seconds)
