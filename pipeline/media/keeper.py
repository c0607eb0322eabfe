"""One decoder process and the thread that keeps it: starts it, feeds it, times it, replaces it.

Each child has a thread and a pipe of its own and one clip at a time. Children share nothing: no lock that a dying one
could keep, no queue that it could tear. (A `pebble` pool was tried first: one child killed between two clips, by a
system short of memory say, puts the whole pool out of service.)
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from multiprocessing.connection import Connection
from typing import Any

from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.child import DAMAGED_HINT, Settings
from avpipe.pipeline.media.decode import DecodedClip

Job = tuple[Clip, "Future[DecodedClip]"]

_STARTUP_SECONDS = 120.0
_STARTUP_ATTEMPTS = 3
_CHILD = "import sys; from avpipe.pipeline.media.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"


class _ChildDied(Exception):
    pass


class _NoAnswer(Exception):
    pass


class Keeper(threading.Thread):
    """Decodes the jobs of a queue in a child process, until it takes None from the queue.

    The thread lives as long as its children may, because Linux ties "dies with its parent" to the thread that started
    the child.

    Args:
        jobs: clips with the futures that wait for them.
        settings: what the child is to do.
        deadline_seconds: time that a clip may take, from when the child takes it up.
    """

    def __init__(self, jobs: queue.SimpleQueue[Job | None], settings: Settings, deadline_seconds: float) -> None:
        super().__init__(name="decode-keeper", daemon=True)
        self._jobs, self._settings, self._deadline_seconds = jobs, settings, deadline_seconds
        self._lock = threading.Lock()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def run(self) -> None:
        """Serves the queue."""
        with contextlib.suppress(Exception):  # what is wrong here will be wrong, and reported, with the first clip
            self._child()  # its imports are under way before a clip comes
        while (job := self._jobs.get()) is not None:
            clip, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._decode(clip))
            except BaseException as error:  # whatever it is, it belongs to the one who waits
                future.set_exception(error)
        self._end_child()

    def stop(self) -> None:
        """Kills the child now, from any thread. The thread itself ends at the None in its queue."""
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()

    def _decode(self, clip: Clip) -> DecodedClip:
        self._hand_over(clip)
        try:
            outcome: DecodedClip | AvpipeError = self._receive(self._deadline_seconds)
        except _NoAnswer:
            self._end_child()
            reason = f"clip {clip.id!r}: no answer from the decoder within {self._deadline_seconds:g} s"
            raise InputRejected(reason, stage="decode", hint=DAMAGED_HINT) from None
        except _ChildDied:
            status = self._end_child(grace_seconds=1.0)
            if self._stopping:
                raise CancelledError from None
            raise self._death(clip, status) from None
        if isinstance(outcome, AvpipeError):
            raise outcome
        return outcome

    def _hand_over(self, clip: Clip) -> None:
        """Returns once a child has taken up the clip. One that ends before does so through no fault of the clip."""
        status: int | None = None
        for _ in range(_STARTUP_ATTEMPTS):
            try:
                self._child().send(clip)
                self._receive(_STARTUP_SECONDS)
            except (_ChildDied, BrokenPipeError, ConnectionResetError):
                status = self._end_child(grace_seconds=1.0)
            except _NoAnswer:
                self._end_child()
                raise EnvironmentLacking(f"no decoder process was ready within {_STARTUP_SECONDS:.0f} s") from None
            else:
                return
        raise EnvironmentLacking(f"decoder processes end before they take up a clip ({_status_text(status)})")

    def _child(self) -> Connection:
        """The pipe to the child; starts one where there is none."""
        if self._pipe is not None:
            return self._pipe
        ours, theirs = multiprocessing.Pipe()
        with theirs, self._lock:
            if self._stopping:
                raise CancelledError
            self._process, self._pipe = _launch(theirs.fileno()), ours
        ours.send(self._settings)
        return ours

    def _receive(self, seconds: float) -> Any:
        """The next answer, which must be here as a whole within `seconds`."""
        assert self._pipe is not None
        assert self._process is not None
        end = time.monotonic() + seconds
        late = threading.Event()
        try:
            if not self._pipe.poll(seconds):
                raise _NoAnswer
            with _killed_at(end, self._process, late):
                return self._pipe.recv()
        except (EOFError, OSError):  # OSError: it ended amid an answer
            raise (_NoAnswer if late.is_set() else _ChildDied) from None

    def _end_child(self, *, grace_seconds: float = 0.0) -> int | None:
        """Waits for the child to end, then kills it. Returns its exit status (negative: a signal), or None."""
        with self._lock:
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(grace_seconds)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # one stuck in the kernel (a dead drive) is left behind
            return process.wait(5.0)
        return None

    def _death(self, clip: Clip, status: int | None) -> InputRejected:
        limit, hint = self._settings.memory_limit_bytes, DAMAGED_HINT
        if limit is not None:
            hint += f"; or raise the memory limit of {limit / 2**20:.0f} MiB"
        reason = f"clip {clip.id!r}: the decoder process died ({_status_text(status)})"
        return InputRejected(reason, stage="decode", hint=hint)


@contextlib.contextmanager
def _killed_at(end: float, process: subprocess.Popen[bytes], late: threading.Event) -> Iterator[None]:
    """Kills a child that has begun its answer and not ended it at `end` (monotonic): a read of the rest has no limit
    of its own, and ends with the child. Sets `late` before."""

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(max(0.0, end - time.monotonic()), kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _launch(pipe_number: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter, not a fork (threads hold locks) and not multiprocessing's (it would run the user's script).

    It leads a process group, so that Ctrl-C in the terminal reaches the parent alone.
    """
    command = [sys.executable, "-P", "-c", _CHILD, str(pipe_number), str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.Popen(
        command, env=environment, pass_fds=(pipe_number,), process_group=0, stdin=subprocess.DEVNULL, stdout=2
    )


def _status_text(status: int | None) -> str:
    if status is None:
        return "it does not end"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
