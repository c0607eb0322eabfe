"""Stage one inside one process: media, backbones, and what comes behind them, side by side.

    decoders (processes) -> backbone (the calling thread) -> encode (a thread) -> write and commit (a thread)

Each waits only for what it is fed, or for room behind it; `lookahead` bounds what is decoded ahead, `lanes` the rest.
Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.stages.clip_media import ClipMedia, MediaSource, decoders_of, to_decode
from avpipe.stages.job import RAW_ARRAYS, ExtractJob
from avpipe.stages.job_backbones import JobBackbones, RawTokens
from avpipe.stages.lookahead import Ahead, Lookahead
from avpipe.stages.outcome import UnitOutcome
from avpipe.stages.unit_tail import ClipTokens, OpenUnit, UnitTail


class UnitRunner(JobBackbones):
    """Extracts units of one job."""

    def __init__(self, job: ExtractJob) -> None:
        super().__init__(job)
        self._writer: CacheWriter | None = None
        self._tail: UnitTail | None = None
        self._ledger = threading.Lock()
        self._before: Future[UnitOutcome] | None = None
        self.source = MediaSource(job)

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
        on_clip: Callable[[str, bool], None] = lambda clip, rejected: None,
    ) -> Future[UnitOutcome]:
        """Extracts one unit, unless it is done, or another process is at it.

        Args:
            work: the unit: its clips and the arrays that it lacks.
            clips: media by clip id; a clip that is missing here is rejected if it has to be decoded.
            expected: sha256 of the weights by modality, as the cache's fingerprint has them.
            ahead: called when the last clips of this unit are being decoded: the unit to decode next.
            on_clip: called in another thread after each clip with its id and whether it was rejected.

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
                tokens = self.clip(unit, planned, media)
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
        except InputRejected as error:
            if error.seconds:  # that clip has kept a decoder from others
                unit.clock.add("decode", error.seconds)
            raise
        finally:
            unit.waited += time.perf_counter() - begun
        for stage, seconds in media.seconds.items():
            unit.clock.add(stage, seconds)
        return media

    def clip(self, unit: OpenUnit, planned: PlannedClip, media: ClipMedia) -> ClipTokens:
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

    def finish(self) -> None:
        """Waits until the last unit that was begun is committed, or has failed."""
        if self._before is not None:
            wait([self._before])

    def close(self) -> None:
        """Stops what is under way, ends the decoding processes and lets go of the cache."""
        if self._tail is not None:
            self._tail.close()
            self._tail, self._before = None, None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.source.close()
