"""The end of stage one inside one process: what the backbone gave is encoded and written behind its back.

Two lanes, each a thread: `encode` (storage type, statistics) and `write` (rows, checksums, commits). The backbone of a
clip, of the next unit too, runs meanwhile. Units are committed in order, and no row of a unit is written before the one
before it is committed: a crash costs one unit that was begun.

Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import CacheWriter, PlannedClip, UnitWork, UnitWriter
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.versions import decoder_versions
from avpipe.stages.lanes import AtOnce, Lane, Trouble
from avpipe.stages.outcome import UnitOutcome
from avpipe.stages.stage_clock import StageClock

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class OpenUnit:
    """A unit that is under way.

    Attributes:
        work: its clips and arrays.
        writer: its rows on disk. Made by `UnitTail.begin`; then used by the lane `write` alone, until that has ended.
        lanes: clips that each stage of this process can work on at once, where that is not one.
        on_clip: called with the id of each clip and whether it was rejected, in the thread of the lane `write`.
        clock: seconds by stage.
        outcome: what became of it, once it is committed.
        waited: seconds that the backbone has waited for media.
        done, rejected: ids of clips so far, and reasons.
        began: time of its beginning, seconds since 1970.
    """

    work: UnitWork
    writer: UnitWriter
    lanes: Mapping[str, int]
    on_clip: Callable[[str, bool], None]
    clock: StageClock = field(default_factory=StageClock)
    outcome: Future[UnitOutcome] = field(default_factory=Future)
    waited: float = 0.0
    done: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time)


@dataclass(frozen=True)
class ClipTokens:
    """One clip behind the backbone.

    Attributes:
        planned: the clip.
        tokens: float32 `[T, N, C]` by whatever `encode` understands.
        media: frames and samples that are to be stored, by array name.
        masks: by modality: bool `[T]`, True where there was media.
        provenance: what made it.
    """

    planned: PlannedClip
    tokens: Mapping[Any, npt.NDArray[Any]]
    media: Arrays
    masks: Mapping[str, npt.NDArray[np.bool_]]
    provenance: Mapping[str, str]


Encode = Callable[[Mapping[Any, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]
"""From the backbones' tokens to what is stored of them, by array name."""


class UnitTail:
    """Encodes, writes and commits. `begin` a unit, hand over its clips in order, `end` it; at last `close`.

    Every method but `close` raises what stopped the lanes, if anything did: no space, an overflow.

    Args:
        writer: of the cache.
        encode: run in the lane `encode`.
        ledger: held wherever the writer looks at the ledger or names files, since two threads do.
        lane: `AtOnce` does everything in the calling thread, one after the other, as for measuring it.
    """

    def __init__(
        self, writer: CacheWriter, encode: Encode, ledger: threading.Lock, lane: type[Lane] | type[AtOnce] = Lane
    ) -> None:
        self._writer, self._encode, self._ledger = writer, encode, ledger
        self._open: list[OpenUnit] = []
        self._trouble = Trouble(self._fail)
        self._lanes = [lane(name, self._trouble) for name in ("encode", "write")]

    @property
    def failed(self) -> bool:
        """Whether an error has stopped it: it must be closed, and another one made."""
        return self._trouble.error is not None

    def begin(self, work: UnitWork, lanes: Mapping[str, int], on_clip: Callable[[str, bool], None]) -> OpenUnit:
        """Opens a unit whose lease this process holds; its files are made now."""
        with self._ledger:
            unit = OpenUnit(work, self._writer.unit(work), lanes, on_clip)
        self._open.append(unit)
        return unit

    def clip(self, unit: OpenUnit, clip: ClipTokens) -> None:
        """Hands over a clip; waits while the lanes have their hands full."""
        held = sum(rows.nbytes for rows in (*clip.tokens.values(), *clip.media.values()))
        self._lanes[0].put(lambda: self._encode_clip(unit, clip), held)

    def reject(self, unit: OpenUnit, planned: PlannedClip, error: InputRejected) -> None:
        """Hands over why a clip is not among those that are kept."""
        self._in_order(lambda: self._reject(unit, planned, error))

    def end(self, unit: OpenUnit) -> Future[UnitOutcome]:
        """Says that all clips of the unit were handed over.

        Returns:
            What becomes of it, once it is committed.
        """
        self._in_order(lambda: self._commit(unit))
        return unit.outcome

    def give_up(self, unit: OpenUnit) -> None:
        """Throws away a unit that cannot be ended, after the one before it is committed."""
        if not self.failed:
            self._in_order(lambda: self._drop(unit))
            unit.outcome.exception()

    def close(self) -> None:
        """Stops now: what runs is ended, all that is not committed is thrown away and its leases let go of."""
        self._trouble.stop(RuntimeError("the extraction was stopped"))
        for lane in self._lanes:
            lane.join()
        for unit in self._open:
            unit.writer.discard()
            self._writer.release(unit.work.unit)
        self._open.clear()

    def _in_order(self, job: Callable[[], None]) -> None:
        """Does a job in the lane `write`, behind the clips that are being encoded."""
        self._lanes[0].put(lambda: self._lanes[1].put(job))

    def _encode_clip(self, unit: OpenUnit, clip: ClipTokens) -> None:
        try:
            with unit.clock.time("encode"):
                rows = {**self._encode(clip.tokens), **clip.media}
        except InputRejected as error:
            rejected = error  # the name of the exception itself is gone when the job is done
            self._lanes[1].put(lambda: self._reject(unit, clip.planned, rejected))
            return
        values = {name: rows[name] for name in sorted(array.name for array in unit.work.arrays)}
        light = replace(clip, tokens={}, media={})
        self._lanes[1].put(lambda: self._write_clip(unit, light, values), sum(row.nbytes for row in values.values()))

    def _write_clip(self, unit: OpenUnit, clip: ClipTokens, values: Arrays) -> None:
        planned = clip.planned
        try:
            with unit.clock.time("write"):
                for name, rows in values.items():
                    for offset, row in enumerate(rows):
                        unit.writer.write(name, planned.start + offset, row)
                unit.writer.clip_done(planned, clip.masks, clip.provenance)
        except InputRejected as error:
            self._reject(unit, planned, error, clip.provenance)
            return
        unit.done.append(planned.id)
        self._tell(unit, planned)

    def _reject(
        self, unit: OpenUnit, planned: PlannedClip, error: InputRejected, known: Mapping[str, str] | None = None
    ) -> None:
        """`known`: the provenance of a clip that was decoded; one that was not may not even tell its decoder."""
        provenance = {**decoder_versions(), **(known or {})}
        unit.writer.reject(planned, stage=error.stage, reason=error.reason, hint=error.hint, provenance=provenance)
        unit.rejected[planned.id] = str(error)
        self._tell(unit, planned)

    def _tell(self, unit: OpenUnit, planned: PlannedClip) -> None:
        self._writer.progress()
        unit.on_clip(planned.id, planned.id in unit.rejected)

    def _commit(self, unit: OpenUnit) -> None:
        """`UnitWriter.commit` in its steps: only the long one, the sync, is done without keeping the ledger."""
        with unit.clock.time("commit"):
            begun = time.perf_counter()
            unit.writer.seal()
            spent = unit.clock.seconds() | {"wait": unit.waited, "commit": time.perf_counter() - begun}
            with self._ledger:
                won = unit.writer.put_record(spent)
                if won:
                    unit.writer.publish()
        self._let_go(unit)
        outcome = UnitOutcome(
            unit=unit.work.unit,
            won=won,
            clips=tuple(unit.done),
            rejected=unit.rejected,
            seconds=unit.clock.seconds() | {"wait": unit.waited},
            stages=unit.clock.stages,
            lanes=unit.lanes,
            process=f"{socket.gethostname()}-{os.getpid()}",
            span=(unit.began, time.time()),
        )
        with suppress(InvalidStateError):  # stopped meanwhile: it is committed, but who waited has been told of the end
            unit.outcome.set_result(outcome)

    def _drop(self, unit: OpenUnit) -> None:
        self._let_go(unit)
        with suppress(InvalidStateError):
            unit.outcome.set_exception(RuntimeError(f"unit {unit.work.unit} was given up"))

    def _let_go(self, unit: OpenUnit) -> None:
        unit.writer.discard()  # nothing is left to discard of one that is committed
        self._writer.release(unit.work.unit)
        self._open.remove(unit)

    def _fail(self, error: BaseException) -> None:
        for unit in list(self._open):
            with suppress(InvalidStateError):  # its commit may end just now, in the lane `write`
                unit.outcome.set_exception(error)
