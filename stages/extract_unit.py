"""Stage one inside one process: media, run the backbones, write and commit units.

Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork, UnitWriter
from avpipe.pipeline.cache.layout import array_name
from avpipe.pipeline.errors import CacheMismatch, EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.stages import backbones
from avpipe.stages.clip_media import ClipMedia, MediaSource, to_decode
from avpipe.stages.job import RAW_ARRAYS, ExtractJob
from avpipe.stages.statistics import statistics_name, token_statistics

WORK_KINDS = ("decode", "wait", "backbone", "write")
LOOKAHEAD = 3
"""Clips that are decoded ahead of the one in the backbone."""

Ahead = Callable[[], "tuple[UnitWork, Mapping[str, Clip]] | None"]
"""Claims the unit that comes after the open one and gives it, with the media of its clips; None where there is none."""


@dataclass(frozen=True)
class UnitOutcome:
    """What became of one unit of work.

    Attributes:
        unit: its number.
        won: False where another process had committed it first, or holds it.
        clips: ids that were extracted.
        rejected: ids that were quarantined, with the reason.
        seconds: work by kind: `decode` (in the child), `wait` (for it), `backbone`, `write`.
        holder: name of the writer that works on it, so that nothing was done here; "" otherwise.
    """

    unit: int
    won: bool
    clips: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    holder: str = ""


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
        self._writer: CacheWriter | None = None
        self.source = MediaSource(job)

    def backbone(self, modality: str) -> backbones.Backbone:
        """The loaded backbone of a modality."""
        if modality not in self._backbones:
            job = self._job.modalities[modality]
            run = self._job
            self._backbones[modality] = backbones.load(job.choice, job.facts, job.taps, run.device, run.compiled)
        return self._backbones[modality]

    def weights(self) -> dict[str, str]:
        """Loads every backbone: sha256 of their weights by modality.

        Raises:
            UsageError: a weights file cannot be used.
            EnvironmentLacking: weights cannot be had here; what is lacking for each modality is said at once, before
                any is built or downloaded.
        """
        lacking = []
        for job in self._job.modalities.values():
            try:
                backbones.check_weights(job.choice, job.facts)
            except EnvironmentLacking as error:
                lacking.append(str(error))
        if lacking:
            tiny = "To try things out, take the tiny ones that ship with avpipe: --visual test_vit --audio test_vit"
            raise EnvironmentLacking("\n".join([*lacking, f"{tiny} --weights demo"]))
        return {modality: self.backbone(modality).weights_sha256 for modality in self._job.modalities}

    def tokens(self, media: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Features of one clip by array name: tokens `[T, N, C]` in the storage type, and their statistics.

        Args:
            media: frames and samples by modality, as `ClipMedia.values`.
        """
        found = {}
        for modality, inputs in media.items():
            job = self._job.modalities[modality]
            tokens = in_batches(self.backbone(modality), inputs, self._job.batch, job.facts.window_segments)
            for tap in job.taps:
                with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the writer refuses by name
                    values = tokens[tap].astype(self._job.dtype)
                name = array_name(modality, tap, self._job.dtype)
                found[name] = values
                if name in self._job.statistics:
                    found[statistics_name(name)] = token_statistics(values)
        return found

    def claim(self, work: UnitWork) -> UnitWork | UnitOutcome:
        """Takes the lease of a unit: what is left to do in it, or why there is nothing to do here."""
        writer, ids = self._open_writer(), tuple(clip.id for clip in work.clips)
        if writer.left(work) is not None:
            if not writer.claim(work.unit):
                return UnitOutcome(work.unit, False, holder=writer.holder(work.unit) or "a process that just ended")
            left = writer.left(work)  # once more: its last holder may have committed it before letting go
            if left is not None:
                return left
            writer.release(work.unit)
        self.source.forget(ids)
        return UnitOutcome(work.unit, False, ids)

    def run(
        self,
        work: UnitWork,
        clips: Mapping[str, Clip],
        expected: Mapping[str, str],
        *,
        ahead: Ahead = lambda: None,
        on_clip: Callable[[str], None] = lambda clip: None,
    ) -> UnitOutcome:
        """Extracts and commits one unit, unless it is done, or another process is at it.

        Args:
            work: the unit: its clips and the arrays that it lacks.
            clips: media by clip id; a clip that is missing here is rejected if it has to be decoded.
            expected: sha256 of the weights by modality, as the cache's fingerprint has them.
            ahead: called when the last clips of this unit are being decoded: the unit to decode next.
            on_clip: called after each clip with its id.

        Raises:
            CacheMismatch: the weights loaded here are not those of the cache.
        """
        self.check_weights(expected)
        left = self.claim(work)
        if isinstance(left, UnitOutcome):
            return left
        try:
            return self._run(left, clips, ahead, on_clip)
        finally:
            self._open_writer().release(work.unit)

    def _run(
        self, work: UnitWork, clips: Mapping[str, Clip], ahead: Ahead, on_clip: Callable[[str], None]
    ) -> UnitOutcome:
        clock, done, rejected = _Clock(), [], {}
        writer = self._open_writer()
        self.source.begin(work)
        coming, asked = _to_prefetch(work, clips), not to_decode(work)
        with writer.unit(work) as unit:
            for position, planned in enumerate(work.clips):
                if position + LOOKAHEAD > len(coming) and not asked:
                    coming, asked = coming + _to_prefetch(*(ahead() or (work, {}))), True
                for clip, modalities in coming[position : position + LOOKAHEAD]:
                    self.source.prefetch(clip, modalities)
                try:
                    self._clip(unit, work, planned, clips.get(planned.id), clock)
                    done.append(planned.id)
                except InputRejected as error:
                    unit.reject(planned, stage=error.stage, reason=error.reason, hint=error.hint)
                    rejected[planned.id] = str(error)
                writer.progress()
                on_clip(planned.id)
            won = clock.time("write", lambda: unit.commit(clock.seconds))
        return UnitOutcome(work.unit, won, tuple(done), rejected, clock.seconds)

    def _open_writer(self) -> CacheWriter:
        if self._writer is None:
            self._writer = CacheWriter.open(self._job.cache)
        return self._writer

    def check_weights(self, expected: Mapping[str, str]) -> None:
        """Raises `CacheMismatch` where the weights loaded here (sha256 by modality) are not those of the cache."""
        for modality, sha256 in expected.items():
            found = self.backbone(modality).weights_sha256
            if found != sha256:
                given = self._job.modalities[modality].choice.weights
                raise CacheMismatch(
                    f"{modality} weights {given!r} hash to {found[:12]} on this worker, the cache was begun with "
                    f"{sha256[:12]}: give every worker the same weights and versions"
                )

    def _clip(self, unit: UnitWriter, work: UnitWork, planned: PlannedClip, clip: Clip | None, clock: _Clock) -> None:
        media: ClipMedia = clock.time("wait", lambda: self.source.media(work, planned, clip))
        clock.seconds["decode"] += media.decode_seconds
        wanted = {array.name for array in work.arrays}
        modalities = {name.partition("/")[0] for name in wanted - set(RAW_ARRAYS.values())}
        tokens = clock.time("backbone", lambda: self.tokens({m: media.values[m] for m in sorted(modalities)}))
        values = tokens | {RAW_ARRAYS[modality]: rows for modality, rows in media.values.items()}
        clock.time("write", lambda: _write(unit, planned, {name: values[name] for name in sorted(wanted)}))
        unit.clip_done(planned, media.masks, media.provenance | self.software(modalities))

    def software(self, modalities: set[str]) -> dict[str, str]:
        """What computed the tokens, and on what; provenance, not fingerprint."""
        jobs = self._job.modalities
        names = sorted({name for modality in modalities for name in backbones.libraries_of(jobs[modality].facts)})
        devices = {f"{modality} device": self.backbone(modality).device for modality in modalities}
        compiled = {"torch.compile": "on"} if self._job.compiled else {}
        return {name: version(name) for name in names} | devices | compiled

    def close(self) -> None:
        """Ends the decoding processes and lets go of the cache."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.source.close()


def in_batches(
    backbone: backbones.Backbone, inputs: npt.NDArray[Any], batch: int, window: int = 1
) -> dict[str, npt.NDArray[np.float32]]:
    """Tokens of a clip, in batches of one size: padded with zeros, because results may depend on the size.

    Args:
        backbone: the loaded backbone.
        inputs: frames or samples of T segments, `[T, ...]`.
        batch: segments in a batch; rounded down to whole windows, at least one.
        window: segments that the backbone takes at once, side by side.

    Returns:
        float32 `[T, N, C]` by tap.
    """
    size, pieces = max(1, batch // window) * window, []
    for start in range(0, len(inputs), size):
        piece = inputs[start : start + size]
        padded = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
        windows = padded if window == 1 else padded.reshape(size // window, -1)
        pieces.append({tap: tokens[: len(piece)] for tap, tokens in backbone.features(windows).items()})
    return {tap: np.concatenate([piece[tap] for piece in pieces]) for tap in pieces[0]}


def _to_prefetch(work: UnitWork, clips: Mapping[str, Clip]) -> list[tuple[Clip, frozenset[str]]]:
    """Clips of a unit in order, and what is to be decoded of each."""
    return [(clips[planned.id], to_decode(work)) for planned in work.clips if planned.id in clips]


def _write(unit: UnitWriter, planned: PlannedClip, values: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, rows in values.items():
        for offset, row in enumerate(rows):
            unit.write(name, planned.start + offset, row)
