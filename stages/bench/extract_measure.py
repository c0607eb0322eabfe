"""An extraction in this process, under a clock: as a whole, or its stages one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork, open_cache
from avpipe.pipeline.datasets.origin import origin_of
from avpipe.pipeline.errors import AvpipeError, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import signature
from avpipe.stages.bench.processor import Stopwatch
from avpipe.stages.clip_media import ClipMedia, MediaSource
from avpipe.stages.executors import close_runner, runner_of
from avpipe.stages.extract import extract
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.lanes import AtOnce
from avpipe.stages.lookahead import Lookahead
from avpipe.stages.unit_tail import UnitTail

if TYPE_CHECKING:
    from avpipe.pipeline.manifest import Dataset
    from avpipe.stages.bench.extract_order import ExtractOrder
    from avpipe.stages.extract_unit import UnitRunner
    from avpipe.stages.job import ExtractJob

WARM_UP = 2
"""Runs of the backbones before the first that counts."""
Loaded = tuple[PlannedClip, ClipMedia | InputRejected]
"""A clip of a unit, and its media or why it has none."""


def measure_together(order: ExtractOrder) -> dict[str, Any]:
    """Runs the real extraction, once weights are loaded and every decoder has decoded a clip.

    Returns:
        JSON-ready figures of the row that need the whole; see `docs/bench-extract.md`.
    """
    from avpipe.stages.backbones.devices import device_name, torch_device

    dataset = order.dataset()
    _store(order, dataset)
    begun, job = time.perf_counter(), order.job()
    runner = runner_of(job)
    runner.weights()
    _warm_up(runner, job, dataset, decode=not order.stored)
    startup, watch = time.perf_counter() - begun, Stopwatch()
    with watch.running():
        done = extract(dataset, job, unit_segments=order.unit_segments)
    if not done.extracted:
        raise AvpipeError(f"no clip was extracted: {done.quarantined[0].reason if done.quarantined else 'interrupted'}")
    return {
        "startup_s": startup,
        "wall_s": watch.wall,
        "cpu_s": watch.cpu,
        "others_share": watch.others_share(),
        "clips": done.extracted,
        "rejected": len(done.quarantined),
        "decoders": job.decoders,
        "stages": [asdict(stage) for stage in done.stages],
        "bottleneck": done.bottleneck,
        "device": device_name(torch_device(job.device)),
        "content_hash": open_cache(job.cache).content_hash(),
    }


def measure_alone(order: ExtractOrder) -> dict[str, Any]:
    """Runs the stages of the same extraction one after the other: decoding of all clips, then backbone, then encode.

    Decoding has the machine to itself; then, from memory, backbone and encode take turns in this thread, clip by clip.

    Returns:
        JSON-ready: `decode_alone_s`, `decode_cpu_s`, the same of `backbone` and `encode`, and `content_hash`.
    """
    dataset = order.dataset()
    _store(order, dataset)
    job = order.job()
    runner = runner_of(job)
    decode, backbone, encode = Stopwatch(), Stopwatch(time.process_time), Stopwatch(time.process_time)
    try:
        with _planned(runner, job, dataset, order.unit_segments) as (writer, works):
            _warm_up(runner, job, dataset, decode=not order.stored)
            with decode.running():
                loaded = _load(runner, job, dataset, works)
            runner.source.close()
            for work, clips in zip(works, loaded, strict=True):
                _extract_unit(runner, writer, work, clips, backbone, encode)
    finally:
        close_runner()
    found = decode.figures("decode") | backbone.figures("backbone") | encode.figures("encode")
    return found | {"content_hash": open_cache(job.cache).content_hash()}


def _store(order: ExtractOrder, dataset: Dataset) -> None:
    """Puts frames and samples into the cache, where the order has them there."""
    if order.stored:
        extract(dataset, order.first_job(), unit_segments=order.unit_segments)


def _warm_up(runner: UnitRunner, job: ExtractJob, dataset: Dataset, *, decode: bool) -> None:
    """Runs the backbones on black and silent segments and has every decoder decode a clip: all that comes once."""
    modalities, clips = frozenset(job.modalities), dataset.clips[: job.decoders] if decode else ()
    for clip in clips:
        runner.source.prefetch(clip, modalities)
    raw = {array.modality: array for array in job.arrays() if array.name in RAW_ARRAYS.values()}
    segments = dataset.clips[0].segments
    for _ in range(WARM_UP):
        runner.tokens({m: np.zeros((segments, *each.row_shape), each.dtype) for m, each in raw.items()})
    for clip in clips:
        with suppress(InputRejected):
            runner.source.decode(clip, modalities)


@contextmanager
def _planned(
    runner: UnitRunner, job: ExtractJob, dataset: Dataset, unit_segments: int
) -> Iterator[tuple[CacheWriter, tuple[UnitWork, ...]]]:
    """A writer of the cache, which is made where there is none, and the units that it lacks."""
    weights = runner.weights()
    with CacheWriter.create(job.cache, dataset=origin_of(dataset), unit_rows=unit_segments) as writer:
        for modality in job.modalities:
            writer.declare(modality, job.fields(modality, weights[modality]), job.request(modality))
        wanted = [(clip.id, clip.segments, signature(clip)) for clip in dataset.clips]
        yield writer, writer.plan(wanted, job.arrays()).pending


def _load(runner: UnitRunner, job: ExtractJob, dataset: Dataset, works: Sequence[UnitWork]) -> list[list[Loaded]]:
    """Media of the clips of each unit, decoded or read as far ahead as an extraction does."""
    source, clips, found = runner.source, {clip.id: clip for clip in dataset.clips}, []
    following = iter(works[1:])

    def ahead() -> tuple[UnitWork, Mapping[str, Clip]] | None:
        work = next(following, None)
        return None if work is None else (work, clips)

    for work in works:
        source.begin(work)
        coming, loaded = Lookahead(source, job, work, clips, ahead, before=None), []
        for position, planned in enumerate(work.clips):
            coming.reach(position)
            loaded.append((planned, _media(source, work, planned, clips[planned.id])))
        found.append(loaded)
    return found


def _media(source: MediaSource, work: UnitWork, planned: PlannedClip, clip: Clip) -> ClipMedia | InputRejected:
    try:
        return source.media(work, planned, clip)
    except InputRejected as error:
        return error


def _extract_unit(
    runner: UnitRunner,
    writer: CacheWriter,
    work: UnitWork,
    loaded: Sequence[Loaded],
    backbone: Stopwatch,
    encode: Stopwatch,
) -> None:
    """Sends one unit through backbones and tail as an extraction does, each step when the one before it has ended."""
    tail = UnitTail(writer, runner.encode, threading.Lock(), AtOnce)
    try:
        with encode.running():
            unit = tail.begin(work, {}, lambda clip, rejected: None)
        for planned, media in loaded:
            if isinstance(media, InputRejected):
                tail.reject(unit, planned, media)
                continue
            with backbone.running():
                tokens = runner.clip(unit, planned, media)
            with encode.running():
                tail.clip(unit, tokens)
        with encode.running():
            tail.end(unit)
    finally:
        tail.close()
