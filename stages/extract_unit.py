"""Stage one inside one process: decode, run the backbones, write and commit units.

Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import Cache, CacheWriter, ClipRows, PlannedClip, UnitWork, UnitWriter, open_cache
from avpipe.pipeline.errors import CacheMismatch, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.stages import backbones
from avpipe.stages.job import RAW_ARRAYS, ExtractJob

WORK_KINDS = ("decode", "wait", "backbone", "write")
LOOKAHEAD = 3
"""Clips that are decoded ahead of the one in the backbone."""


@dataclass(frozen=True)
class UnitOutcome:
    """What became of one unit of work.

    Attributes:
        unit: its number.
        won: False where another process had committed it first.
        clips: ids that were extracted.
        rejected: ids that were quarantined, with the reason.
        seconds: work by kind: `decode` (in the child), `wait` (for it), `backbone`, `write`.
    """

    unit: int
    won: bool
    clips: tuple[str, ...]
    rejected: dict[str, str]
    seconds: dict[str, float]


@dataclass
class _Clock:
    """Seconds by kind of work."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WORK_KINDS, 0.0))

    def time(self, kind: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[kind] += time.perf_counter() - begun


class UnitRunner:
    """Extracts units of one job; loads each backbone once, on first use."""

    def __init__(self, job: ExtractJob) -> None:
        self._job = job
        self._backbones: dict[str, backbones.Backbone] = {}
        self._pool: DecodePool | None = None
        self._writer: CacheWriter | None = None
        self._cache: Cache | None = None
        self._futures: dict[str, Any] = {}

    def backbone(self, modality: str) -> backbones.Backbone:
        """The loaded backbone of a modality."""
        if modality not in self._backbones:
            job = self._job.modalities[modality]
            self._backbones[modality] = backbones.load(job.choice, job.facts, job.taps, self._job.device)
        return self._backbones[modality]

    def prefetch(self, clips: Sequence[Clip]) -> None:
        """Starts decoding clips that will be needed soon."""
        if self._pool is None:
            self._pool = DecodePool(self._job.media, deadline_seconds=self._job.deadline_seconds)
            self._pool.__enter__()
        for clip in clips:
            if clip.id not in self._futures:
                self._futures[clip.id] = self._pool.submit(clip)

    def decode(self, clip: Clip) -> DecodedClip:
        """Frames and samples of one clip, decoded in a child process."""
        self.prefetch([clip])
        decoded: DecodedClip = self._futures.pop(clip.id).result()
        return decoded

    def tokens(self, media: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Tokens of one clip by array name: [T, N, C] in the storage dtype. `media`: frames and samples by modality."""
        found = {}
        for modality, inputs in media.items():
            size, pieces = self._job.batch, []
            for start in range(0, len(inputs), size):
                piece = inputs[start : start + size]
                padded = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
                features = self.backbone(modality).features(padded)
                pieces.append({tap: tokens[: len(piece)] for tap, tokens in features.items()})
            for tap in self._job.modalities[modality].taps:
                with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the writer refuses by name
                    values = np.concatenate([piece[tap] for piece in pieces]).astype(self._job.dtype)
                found[f"{modality}/{tap}"] = values
        return found

    def run(
        self,
        work: UnitWork,
        clips: Mapping[str, Clip],
        expected: Mapping[str, str],
        *,
        ahead: Sequence[Clip] = (),
        on_clip: Callable[[str], None] = lambda clip: None,
    ) -> UnitOutcome:
        """Extracts and commits one unit.

        Args:
            work: the unit: its clips and the arrays that it lacks.
            clips: media by clip id; a clip that is missing here is rejected.
            expected: sha256 of the weights by modality, as the cache's fingerprint has them.
            ahead: clips of the next unit, whose decoding is begun while this one ends.
            on_clip: called after each clip with its id.

        Raises:
            CacheMismatch: the weights loaded here are not those of the cache.
        """
        self._check_weights(expected)
        clock, done, rejected = _Clock(), [], {}
        if self._writer is None:
            self._writer = CacheWriter.open(self._job.cache)
        if self._writer.is_done(work):
            self._forget(work)
            return UnitOutcome(work.unit, False, tuple(clip.id for clip in work.clips), {}, clock.seconds)
        with self._writer.unit(work) as unit:
            stored = self._stored(work)
            queue = [clips[planned.id] for planned in work.clips if planned.id in clips] + list(ahead)
            for position, planned in enumerate(work.clips):
                if stored is None:
                    self.prefetch(queue[position : position + LOOKAHEAD])
                try:
                    self._clip(unit, work, planned, clips.get(planned.id), stored, clock)
                    done.append(planned.id)
                except InputRejected as error:
                    unit.reject(planned, stage=error.stage, reason=error.reason, hint=error.hint)
                    rejected[planned.id] = str(error)
                on_clip(planned.id)
            won = clock.time("write", lambda: unit.commit(clock.seconds))
        return UnitOutcome(work.unit, won, tuple(done), rejected, clock.seconds)

    def _forget(self, work: UnitWork) -> None:
        """Drops what was decoded ahead for a unit that another process has committed."""
        for planned in work.clips:
            future = self._futures.pop(planned.id, None)
            if future is not None:
                future.cancel()

    def _check_weights(self, expected: Mapping[str, str]) -> None:
        for modality, sha256 in expected.items():
            found = self.backbone(modality).weights_sha256
            if found != sha256:
                given = self._job.modalities[modality].choice.weights
                raise CacheMismatch(
                    f"{modality} weights {given!r} hash to {found[:12]} on this worker, the cache was begun with "
                    f"{sha256[:12]}: give every worker the same weights and versions"
                )

    def _stored(self, work: UnitWork) -> dict[str, ClipRows] | None:
        """The unit's clips where the cache holds their frames and samples already, so that nothing is decoded again."""
        if {array.name for array in work.arrays} & set(RAW_ARRAYS.values()):
            return None
        if self._cache is None:
            self._cache = open_cache(self._job.cache)
        self._cache.reload()
        held = self._cache.clips(RAW_ARRAYS.values())
        return {clip.id: held[clip.id] for clip in work.clips}

    def _clip(
        self,
        unit: UnitWriter,
        work: UnitWork,
        planned: PlannedClip,
        clip: Clip | None,
        stored: Mapping[str, ClipRows] | None,
        clock: _Clock,
    ) -> None:
        if stored is not None:
            assert self._cache is not None
            raw = self._cache.read(self._cache.rows([planned.id]), list(RAW_ARRAYS.values()))
            media = {modality: raw[name] for modality, name in RAW_ARRAYS.items()}
            masks, provenance = stored[planned.id].masks, dict(stored[planned.id].provenance)
        elif clip is None:
            raise InputRejected(
                f"clip {planned.id!r} is planned in this cache, but the dataset has it no more",
                stage="manifest",
                hint="restore its annotation rows, or leave it",
            )
        else:
            decoded = clock.time("wait", lambda: self.decode(clip))
            assert decoded.frames is not None
            assert decoded.samples is not None
            clock.seconds["decode"] += decoded.seconds
            media = {"visual": decoded.frames, "audio": decoded.samples}
            masks, provenance = decoded.masks, decoded.provenance
        wanted = {array.name for array in work.arrays}
        modalities = {name.partition("/")[0] for name in wanted - set(RAW_ARRAYS.values())}
        tokens = clock.time("backbone", lambda: self.tokens({m: media[m] for m in sorted(modalities)}))
        values = tokens | {RAW_ARRAYS[modality]: media[modality] for modality in media}
        clock.time("write", lambda: _write(unit, planned, {name: values[name] for name in wanted}))
        unit.clip_done(planned, masks, provenance | self._software(modalities))

    def _software(self, modalities: set[str]) -> dict[str, str]:
        """What computed the tokens, and on what; provenance, not fingerprint."""
        families = {self._job.modalities[modality].facts.family for modality in modalities}
        names = ("torch", "timm", "pillow") if "timm-vit" in families else ("numpy", "pillow")
        devices = {f"{modality} device": self.backbone(modality).device for modality in modalities}
        return {name: version(name) for name in names} | devices

    def close(self) -> None:
        """Ends the decoding processes and lets go of the cache."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._pool is not None:
            self._pool.__exit__(None, None, None)
            self._pool = None
            self._futures.clear()


def _write(unit: UnitWriter, planned: PlannedClip, values: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, rows in values.items():
        for offset, row in enumerate(rows):
            unit.write(name, planned.start + offset, row)
