"""Frames and samples of clips for the backbones: decoded in child processes, or read from the cache that has them.

Shapes: T segments of a clip, H height, W width, S samples of a segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import Cache, ClipRows, PlannedClip, UnitWork, open_cache
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.stages.job import RAW_ARRAYS, ExtractJob

Modalities = frozenset[str]


@dataclass(frozen=True)
class ClipMedia:
    """What the backbones are fed of one clip.

    Attributes:
        values: by modality: frames uint8 [T, H, W, 3], samples int16 [T, S].
        masks: by modality: bool [T], True where there was media.
        provenance: decoders and their versions.
        decode_seconds: time spent on decoding; 0 where nothing was decoded.
    """

    values: dict[str, npt.NDArray[Any]]
    masks: dict[str, npt.NDArray[np.bool_]]
    provenance: dict[str, str]
    decode_seconds: float


def to_decode(work: UnitWork) -> Modalities:
    """Modalities whose frames or samples a unit lacks: its clips are decoded for them, and for no others."""
    wanted = {array.name for array in work.arrays}
    return frozenset(modality for modality, name in RAW_ARRAYS.items() if name in wanted)


class MediaSource:
    """Media of the clips of one extraction. Decodes ahead; close it to end the decoders."""

    def __init__(self, job: ExtractJob) -> None:
        self._job = job
        self._pools: dict[Modalities, DecodePool] = {}
        self._futures: dict[tuple[str, Modalities], Future[DecodedClip]] = {}
        self._cache: Cache | None = None
        self._known: dict[tuple[str, ...], dict[str, ClipRows]] = {}
        self._stored: Mapping[str, ClipRows] = {}

    def begin(self, work: UnitWork) -> None:
        """Makes ready for a unit: finds its clips in the cache, where that has some of their media."""
        names = tuple(RAW_ARRAYS[modality] for modality in _to_read(work))
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

    def prefetch(self, clip: Clip, modalities: Modalities) -> None:
        """Starts decoding a clip that will be needed soon."""
        if modalities and (clip.id, modalities) not in self._futures:
            self._futures[clip.id, modalities] = self._pool(modalities).submit(clip)

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
        found = ClipMedia({}, {}, {}, 0.0)
        if modalities:
            if clip is None:
                raise InputRejected(
                    f"clip {planned.id!r} is planned in this cache, but the dataset has it no more",
                    stage="manifest",
                    hint="restore its annotation rows, or leave it",
                )
            found = self.decode(clip, modalities)
        for modality in _to_read(work):
            assert self._cache is not None
            name, stored = RAW_ARRAYS[modality], self._stored[planned.id]
            found.values[modality] = self._cache.read(self._cache.rows([planned.id]), [name])[name]
            found.masks[modality] = stored.masks[modality]
            found = replace(found, provenance={**stored.provenance, **found.provenance})
        return found

    def decode(self, clip: Clip, modalities: Modalities) -> ClipMedia:
        """Decodes one clip in a child process."""
        self.prefetch(clip, modalities)
        decoded = self._futures.pop((clip.id, modalities)).result()
        arrays = {"visual": decoded.frames, "audio": decoded.samples}
        values = {modality: rows for modality, rows in arrays.items() if rows is not None}
        return ClipMedia(values, dict(decoded.masks), dict(decoded.provenance), decoded.seconds)

    def forget(self, clips: Iterable[str]) -> None:
        """Drops what was decoded ahead of clips that are not needed any more."""
        unwanted = set(clips)
        for key in [key for key in self._futures if key[0] in unwanted]:
            self._futures.pop(key).cancel()

    def close(self) -> None:
        """Ends the decoding processes."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._futures.clear()

    def _pool(self, modalities: Modalities) -> DecodePool:
        if modalities not in self._pools:
            media = self._job.media
            size = media.frame_size if "visual" in modalities else None
            spec = replace(media, frame_size=size, audio="audio" in modalities)
            self._pools[modalities] = DecodePool(
                spec,
                workers=self._job.decoders or 1,
                deadline_seconds=self._job.deadline_seconds,
                memory_limit_bytes=self._job.decode_memory_bytes,
            )
            self._pools[modalities].__enter__()
        return self._pools[modalities]


def _to_read(work: UnitWork) -> list[str]:
    """Modalities whose frames or samples the cache has, so that nothing is decoded again."""
    return sorted({array.modality for array in work.arrays} - to_decode(work))
