"""The thread that keeps one decoder process: starts it, feeds it, times it, replaces it.

Each child has a thread and a socket of its own and one clip at a time. Children share nothing: no lock that a dying one
could keep, no queue that it could tear. (A `pebble` pool was tried first: one child killed between two clips, by a
system short of memory say, puts the whole pool out of service.)

A clip that crashes its child or runs out of memory is given to a fresh one before it is condemned, unless this one was
fresh: what the clips before it have broken or kept is no fault of its own.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from concurrent.futures import CancelledError, Future

from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import wire
from avpipe.pipeline.media.answers import Answer
from avpipe.pipeline.media.child import DAMAGED_HINT, Settings, named
from avpipe.pipeline.media.decode import DecodedClip
from avpipe.pipeline.media.decoder_process import STARTUP_SECONDS, DecoderProcess

Job = tuple[Clip, "Future[DecodedClip]"]

_STARTUP_ATTEMPTS = 3
_GRACE_SECONDS = 1.0
"""For a child that has closed its socket to end, so that its exit status is known."""


class Keeper(threading.Thread):
    """Decodes the jobs of a queue in a child process, until it takes None from the queue.

    The thread lives as long as its children may, because Linux ties "dies with its parent" to the thread that started
    the child.

    Args:
        jobs: clips with the futures that wait for them.
        settings: what the child is to do.
        deadline_seconds: time that a clip may take, from when the child takes it up.
        content: whether answers are checked for the media that `settings.spec` wants.
    """

    def __init__(
        self, jobs: queue.SimpleQueue[Job | None], settings: Settings, deadline_seconds: float, content: bool
    ) -> None:
        super().__init__(name="decode-keeper", daemon=True)
        self._jobs, self._settings, self._deadline_seconds, self._content = jobs, settings, deadline_seconds, content
        self._lock = threading.Lock()
        self._stopping = False
        self._child: DecoderProcess | None = None
        self._spent = 0.0  # seconds that children have been at the clip

    def run(self) -> None:
        """Serves the queue."""
        self._start_early()
        while (job := self._jobs.get()) is not None:
            clip, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                outcome = self._decode(clip)
            except BaseException as error:  # whatever it is, it belongs to the one who waits
                future.set_exception(error)
            else:
                future.set_result(outcome)
            if self._child is None:
                self._start_early()
        self._end_child()

    def stop(self) -> None:
        """Kills the child now, from any thread. The thread itself ends at the None in its queue."""
        with self._lock:
            self._stopping = True
            if self._child is not None:
                self._child.kill()

    def _start_early(self) -> None:
        """Begins a child's imports before a clip comes. What is wrong here will be reported with the next clip."""
        with contextlib.suppress(Exception):
            self._running_child()

    def _decode(self, clip: Clip) -> DecodedClip:
        self._spent = 0.0
        outcome = self._attempt(clip)
        if outcome is None:
            outcome = self._attempt(clip)
        assert outcome is not None, "a fresh child always has the last word"
        if isinstance(outcome, InputRejected):
            outcome.seconds = self._spent
        if isinstance(outcome, AvpipeError):
            raise outcome
        return outcome

    def _attempt(self, clip: Clip) -> DecodedClip | AvpipeError | None:
        """What became of a clip; None where a fresh child is to try it. A child that cannot go on is ended."""
        child = self._hand_over(clip)
        fresh, limit = not child.served, self._settings.memory_limit_bytes
        try:
            answer = self._answer(child, clip)
        except wire.Late:
            self._end_child()
            reason = f"no answer from the decoder within {self._deadline_seconds:g} s"
            return self._rejected(clip, reason, f"{DAMAGED_HINT}; where it is sound, raise --deadline")
        except wire.Garbled as garbled:
            self._end_child()
            return self._rejected(clip, f"the decoder gave what was not asked for ({garbled})")
        except wire.Closed:
            status = self._end_child(_GRACE_SECONDS)
            if self._stopping:
                raise CancelledError from None
            return self._death(clip, status) if fresh else None
        except BaseException:  # no memory here for the answer, say: the rest of it is still in the socket
            self._end_child()
            raise
        if answer.out_of_memory or child.grown(answer.memory_bytes, limit):
            self._end_child()
        return None if answer.out_of_memory and not fresh else answer.outcome

    def _answer(self, child: DecoderProcess, clip: Clip) -> Answer:
        begun = time.perf_counter()
        try:
            return child.answer(clip, self._deadline_seconds)
        finally:
            self._spent += time.perf_counter() - begun

    def _hand_over(self, clip: Clip) -> DecoderProcess:
        """A child that has taken up the clip. One that ends before it does so ends through no fault of the clip."""
        how = ""
        for _ in range(_STARTUP_ATTEMPTS):
            child = self._running_child()
            try:
                child.take(clip)
            except wire.Closed:
                how = _ending(self._end_child(_GRACE_SECONDS))
            except wire.Garbled as garbled:
                self._end_child()
                how = str(garbled)
            except wire.Late:
                self._end_child()
                if not child.served:
                    raise EnvironmentLacking(f"no decoder process was ready within {STARTUP_SECONDS:.0f} s") from None
            else:
                return child
        raise EnvironmentLacking(f"decoder processes end before they take up a clip ({how})")

    def _running_child(self) -> DecoderProcess:
        """The child; starts one where there is none."""
        with self._lock:
            if self._stopping:
                raise CancelledError
            if self._child is None:
                self._child = DecoderProcess(self._settings, self._content)
            return self._child

    def _end_child(self, grace_seconds: float = 0.0) -> int | None:
        """Ends the child. Returns its exit status, None if it did not end by itself."""
        with self._lock:
            child, self._child = self._child, None
        return None if child is None else child.end(grace_seconds)

    def _death(self, clip: Clip, status: int | None) -> InputRejected:
        limit, hint = self._settings.memory_limit_bytes, DAMAGED_HINT
        if status == -signal.SIGKILL:
            hint = "the system may be short of memory: take fewer decoders and try it again"
        elif limit is not None:
            hint += f"; or raise the memory limit of {limit / 2**20:.0f} MiB, --decode-memory"
        return self._rejected(clip, f"the decoder process died ({_ending(status)})", hint)

    @staticmethod
    def _rejected(clip: Clip, reason: str, hint: str = DAMAGED_HINT) -> InputRejected:
        return InputRejected(f"{named(clip)}: {reason}", stage="decode", hint=hint)


def _ending(status: int | None) -> str:
    if status is None:
        return "it closed its socket"
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status}, {signal.Signals(-status).name}"
    return f"signal {-status}"
