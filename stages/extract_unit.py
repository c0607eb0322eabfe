"""Stage one inside one process: media, backbones, and what comes behind them, side by side.

    decoders (processes) -> backbone (the calling thread) -> encode (a thread) -> write and commit (a thread)

Each waits only for what it is fed, or for room behind it; `lookahead` bounds what is decoded ahead, `lanes` the rest.
Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork
from avpipe.pipeline.cache.layout import array_name
from avpipe.pipeline.errors import CacheMismatch, EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.stages import backbones, spins
from avpipe.stages.clip_media import ClipMedia, MediaSource, decoders_of, to_decode
from avpipe.stages.job import RAW_ARRAYS, ExtractJob
from avpipe.stages.lookahead import Ahead, Lookahead
from avpipe.stages.outcome import UnitOutcome
from avpipe.stages.statistics import statistics_name, token_statistics
from avpipe.stages.unit_tail import ClipTokens, OpenUnit, UnitTail

_version = cache(version)  # which reads a file each time, and is asked for every clip
RawTokens = dict[tuple[str, str], npt.NDArray[np.float32]]
"""Tokens as a backbone gives them, `[T, N, C]` by modality and tap."""


class UnitRunner:
    """Extracts units of one job; loads each backbone once, on first use."""

    def __init__(self, job: ExtractJob) -> None:
        spins.keep_short()
        self._job = job
        self._backbones: dict[str, backbones.Backbone] = {}
        self._writer: CacheWriter | None = None
        self._tail: UnitTail | None = None
        self._ledger = threading.Lock()
        self._before: Future[UnitOutcome] | None = None
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
        return self.encode(self.features(media))

    def features(self, media: Mapping[str, npt.NDArray[Any]]) -> RawTokens:
        """What the backbones make of one clip; `media` as in `tokens`."""
        found: RawTokens = {}
        for modality, inputs in media.items():
            job = self._job.modalities[modality]
            made = in_batches(self.backbone(modality), inputs, self._job.batch, job.facts.window_segments)
            found |= {(modality, tap): made[tap] for tap in job.taps}
        return found

    def encode(self, tokens: Mapping[tuple[str, str], npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """What is stored of the backbones' tokens, by array name."""
        found = {}
        for (modality, tap), made in tokens.items():
            with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the writer refuses by name
                values = made.astype(self._job.dtype)
            name = array_name(modality, tap, self._job.dtype)
            found[name] = values
            if name in self._job.statistics:
                found[statistics_name(name)] = token_statistics(values)
        return found

    def claim(self, work: UnitWork) -> UnitWork | UnitOutcome:
        """Takes the lease of a unit: what is left to do in it, or why there is nothing to do here."""
        writer, ids = self._open_writer(), tuple(clip.id for clip in work.clips)
        if self._left(work) is not None:
            if not writer.claim(work.unit):
                return UnitOutcome(work.unit, False, holder=writer.holder(work.unit) or "a process that just ended")
            left = self._left(work)  # once more: its last holder may have committed it before letting go
            if left is not None:
                return left
            writer.release(work.unit)
        self.source.forget(ids)
        return UnitOutcome(work.unit, False, ids)

    def begin(
        self,
        work: UnitWork,
        clips: Mapping[str, Clip],
        expected: Mapping[str, str],
        *,
        ahead: Ahead = lambda: None,
        on_clip: Callable[[str], None] = lambda clip: None,
    ) -> Future[UnitOutcome]:
        """Extracts one unit, unless it is done, or another process is at it.

        Args:
            work: the unit: its clips and the arrays that it lacks.
            clips: media by clip id; a clip that is missing here is rejected if it has to be decoded.
            expected: sha256 of the weights by modality, as the cache's fingerprint has them.
            ahead: called when the last clips of this unit are being decoded: the unit to decode next.
            on_clip: called in another thread after each clip with its id.

        Returns:
            What becomes of it, once it is committed: that goes on after this returns, and the next unit may begin.

        Raises:
            CacheMismatch: the weights loaded here are not those of the cache.
        """
        self.source.warm_up(to_decode(work))  # their imports and the weights are loaded side by side
        self.check_weights(expected)
        left = self.claim(work)
        if isinstance(left, UnitOutcome):
            ended: Future[UnitOutcome] = Future()
            ended.set_result(left)
            return ended
        tail = self._open_tail()
        try:
            unit = tail.begin(left, {"decode": decoders_of(self._job)}, on_clip)
        except BaseException:
            self._open_writer().release(left.unit)
            raise
        try:
            self._feed(tail, unit, clips, ahead)
            self._before = tail.end(unit)
        except Exception:
            tail.give_up(unit)
            raise
        except BaseException:  # Ctrl-C for the second time
            tail.close()
            raise
        return self._before

    def _feed(self, tail: UnitTail, unit: OpenUnit, clips: Mapping[str, Clip], ahead: Ahead) -> None:
        """Sends every clip of a unit through the backbones, and hands over what comes of it."""
        work = unit.work
        self.source.begin(work)
        coming = Lookahead(self.source, self._job, work, clips, ahead, self._before)
        for position, planned in enumerate(work.clips):
            try:
                media = self._media(unit, coming, position, clips.get(planned.id))
                tokens = self._clip(unit, planned, media)
            except InputRejected as error:
                tail.reject(unit, planned, error)
            else:
                tail.clip(unit, tokens)

    def _media(self, unit: OpenUnit, coming: Lookahead, position: int, clip: Clip | None) -> ClipMedia:
        """Waits for the media of a clip."""
        begun = time.perf_counter()
        try:
            coming.reach(position)
            media = self.source.media(unit.work, unit.work.clips[position], clip)
        finally:
            unit.waited += time.perf_counter() - begun
        for stage, seconds in media.seconds.items():
            unit.clock.add(stage, seconds)
        return media

    def _clip(self, unit: OpenUnit, planned: PlannedClip, media: ClipMedia) -> ClipTokens:
        """Runs the backbones on one clip, for the arrays that the unit lacks."""
        wanted = {array.name for array in unit.work.arrays}
        modalities = {name.partition("/")[0] for name in wanted - set(RAW_ARRAYS.values())}
        tokens: RawTokens = {}
        if modalities:
            with unit.clock.time("backbone"):
                tokens = self.features({modality: media.values[modality] for modality in sorted(modalities)})
        stored = {RAW_ARRAYS[modality]: rows for modality, rows in media.values.items()}
        media_wanted = {name: rows for name, rows in stored.items() if name in wanted}
        return ClipTokens(planned, tokens, media_wanted, media.masks, media.provenance | self.software(modalities))

    def _left(self, work: UnitWork) -> UnitWork | None:
        with self._ledger:
            return self._open_writer().left(work)

    def _open_tail(self) -> UnitTail:
        if self._tail is not None and self._tail.failed:
            self._tail.close()
            self._tail, self._before = None, None
        if self._tail is None:
            self._tail = UnitTail(self._open_writer(), self.encode, self._ledger)
        return self._tail

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

    def software(self, modalities: set[str]) -> dict[str, str]:
        """What computed the tokens, and on what; provenance, not fingerprint."""
        jobs = self._job.modalities
        names = sorted({name for modality in modalities for name in backbones.libraries_of(jobs[modality].facts)})
        devices = {f"{modality} device": self.backbone(modality).device for modality in modalities}
        compiled = {"torch.compile": "on"} if self._job.compiled else {}
        return {name: _version(name) for name in names} | devices | compiled

    def close(self) -> None:
        """Stops what is under way, ends the decoding processes and lets go of the cache."""
        if self._tail is not None:
            self._tail.close()
            self._tail, self._before = None, None
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
