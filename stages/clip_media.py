"""Frames and samples of clips for the backbones: decoded in child processes, or read from the cache that has them.

Both happen ahead of the clip in the backbone: see `lookahead`.

Shapes: T segments of a clip, H height, W width, S samples of a segment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import Cache, ClipRows, PlannedClip, UnitWork, open_cache
from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import InputRejected, UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.stages.job import RAW_ARRAYS, ExtractJob

Modalities = frozenset[str]

MOST_DECODERS = 16
"""Decoders where nobody says how many: each is a process of some 150 MB."""
DECODERS_A_CORE = 8
"""More than so many only take turns and memory: whoever asks for them has made a mistake."""


def decoders_of(job: ExtractJob, processes: int = 1, clips: int | None = None) -> int:
    """How many decoders one process has: as the job says, else one for each core that is its share.

    Also where the backbones run on these cores: the system shares them out.

    Args:
        job: the extraction.
        processes: that run it side by side on this machine.
        clips: how many there are to decode, if that is known: more decoders would have nothing to do.

    Raises:
        UsageError: the job says far more than this machine has cores for.
    """
    most = max(MOST_DECODERS, DECODERS_A_CORE * cores())
    if job.decoders * processes > most:
        workers = f" in each of {processes} workers" if processes > 1 else ""
        raise UsageError(
            f"--decoders {job.decoders}{workers}: this machine has {cores()} cores, which {most} decoders keep busy "
            "at most; give fewer, or 0 for as many as suit it"
        )
    wanted = job.decoders or min(MOST_DECODERS, cores() // processes)
    return max(1, wanted if clips is None else min(wanted, clips))


@dataclass(frozen=True)
class ClipMedia:
    """What the backbones are fed of one clip.

    Attributes:
        values: by modality: frames uint8 [T, H, W, 3], samples int16 [T, S].
        masks: by modality: bool [T], True where there was media.
        provenance: decoders and their versions.
        seconds: time spent by stage: `decode`, `read`, or both; in a decoder or a thread of its own.
    """

    values: dict[str, npt.NDArray[Any]]
    masks: dict[str, npt.NDArray[np.bool_]]
    provenance: dict[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)


def to_decode(work: UnitWork) -> Modalities:
    """Modalities whose frames or samples a unit lacks: its clips are decoded for them, and for no others."""
    wanted = {array.name for array in work.arrays}
    return frozenset(modality for modality, name in RAW_ARRAYS.items() if name in wanted)


def to_read(work: UnitWork) -> Modalities:
    """Modalities whose frames or samples the cache has, so that nothing is decoded again."""
    return frozenset(array.modality for array in work.arrays) - to_decode(work)


class MediaSource:
    """Media of the clips of one extraction. Decodes ahead; close it to end the decoders."""

    def __init__(self, job: ExtractJob) -> None:
        self._job = job
        self._pools: dict[Modalities, DecodePool] = {}
        self._futures: dict[tuple[str, Modalities], Future[DecodedClip]] = {}
        self._reads: dict[str, Future[ClipMedia]] = {}
        self._reader: ThreadPoolExecutor | None = None
        self._cache: Cache | None = None
        self._known: dict[tuple[str, ...], dict[str, ClipRows]] = {}
        self._stored: Mapping[str, ClipRows] = {}

    def begin(self, work: UnitWork) -> None:
        """Makes ready for a unit: finds its clips in the cache, where that has some of their media."""
        names = tuple(sorted(RAW_ARRAYS[modality] for modality in to_read(work)))
        self._drop_reads()
        if not names:
            return
        self._stored = self._known.get(names, {})
        if all(clip.id in self._stored and self._stored[clip.id].start == clip.start for clip in work.clips):
            return  # to look through the whole cache for each unit would take the longer the larger it is
        if self._cache is None:
            self._cache = open_cache(self._job.cache)
        else:
            self._cache.reload()
            self._known.clear()
        self._stored = self._known[names] = self._cache.clips(names)

    def warm_up(self, modalities: Modalities) -> None:
        """Starts the decoders for these modalities, if any: they get ready while something else is done."""
        if modalities:
            self._pool(modalities)

    def prefetch(self, clip: Clip, modalities: Modalities) -> None:
        """Starts decoding a clip that will be needed soon."""
        if modalities and (clip.id, modalities) not in self._futures:
            self._futures[clip.id, modalities] = self._pool(modalities).submit(clip)

    def decoding(self, clip: str, modalities: Modalities) -> Future[DecodedClip] | None:
        """What is to come of a clip that is being decoded; None where it is not."""
        return self._futures.get((clip, modalities))

    def read_ahead(self, work: UnitWork, planned: PlannedClip) -> None:
        """Starts reading what the cache has of the media of a clip of the unit that was begun."""
        modalities = to_read(work)
        if modalities and planned.id not in self._reads:
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, thread_name_prefix="stored-media")
            self._reads[planned.id] = self._reader.submit(self._read, planned.id, modalities)

    def media(self, work: UnitWork, planned: PlannedClip, clip: Clip | None) -> ClipMedia:
        """Media of one clip of the unit that was begun, in the modalities of the unit's arrays.

        Args:
            work: the unit.
            planned: the clip in it.
            clip: where its files are; None where the dataset has it no more.

        Raises:
            InputRejected: it cannot be decoded.
        """
        modalities = to_decode(work)
        self.read_ahead(work, planned)
        found = ClipMedia({}, {}, {})
        if modalities:
            if clip is None:
                raise InputRejected(
                    f"clip {planned.id!r} is planned in this cache, but the dataset has it no more",
                    stage="manifest",
                    hint="restore its annotation rows, or leave it",
                )
            found = self.decode(clip, modalities)
        if planned.id in self._reads:
            stored = self._reads.pop(planned.id).result()
            found = ClipMedia(
                found.values | stored.values,
                found.masks | stored.masks,
                {**stored.provenance, **found.provenance},
                {**stored.seconds, **found.seconds},
            )
        return found

    def decode(self, clip: Clip, modalities: Modalities) -> ClipMedia:
        """Decodes one clip in a child process."""
        self.prefetch(clip, modalities)
        decoded = self._futures.pop((clip.id, modalities)).result()
        arrays = {"visual": decoded.frames, "audio": decoded.samples}
        values = {modality: rows for modality, rows in arrays.items() if rows is not None}
        return ClipMedia(values, dict(decoded.masks), dict(decoded.provenance), {"decode": decoded.seconds})

    def forget(self, clips: Iterable[str]) -> None:
        """Drops what was decoded ahead of clips that are not needed any more."""
        unwanted = set(clips)
        for key in [key for key in self._futures if key[0] in unwanted]:
            self._futures.pop(key).cancel()

    def close(self) -> None:
        """Ends the decoding processes and the reading."""
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
            self._reader = None
        self._reads.clear()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._futures.clear()

    def _read(self, clip: str, modalities: Modalities) -> ClipMedia:
        """Stored media of a clip; runs in the reader's thread."""
        assert self._cache is not None
        begun, stored = time.perf_counter(), self._stored[clip]
        names = {modality: RAW_ARRAYS[modality] for modality in sorted(modalities)}
        rows = self._cache.read(self._cache.rows([clip]), list(names.values()))
        values = {modality: rows[name] for modality, name in names.items()}
        masks = {modality: stored.masks[modality] for modality in modalities}
        return ClipMedia(values, masks, dict(stored.provenance), {"read": time.perf_counter() - begun})

    def _drop_reads(self) -> None:
        """Waits for reads of a unit that was given up: nobody reads while the cache is looked through."""
        for read in self._reads.values():
            if not read.cancel():
                read.exception()
        self._reads.clear()

    def _pool(self, modalities: Modalities) -> DecodePool:
        if modalities not in self._pools:
            media = self._job.media
            size = media.frame_size if "visual" in modalities else None
            spec = replace(media, frame_size=size, audio="audio" in modalities)
            self._pools[modalities] = DecodePool(
                spec,
                workers=decoders_of(self._job),
                deadline_seconds=self._job.deadline_seconds,
                memory_limit_bytes=self._job.decode_memory_bytes,
            )
            self._pools[modalities].__enter__()
        return self._pools[modalities]
