"""One decoder process as its keeper sees it: started, given clips, timed, and ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import wire
from avpipe.pipeline.media.answers import Answer, memory_of, read_answer
from avpipe.pipeline.media.child import Settings
from avpipe.pipeline.media.deadline import Deadline
from avpipe.pipeline.media.decode import MediaSpec

STARTUP_SECONDS = 120.0
"""What a new process may take until it takes up its first clip."""
TAKE_UP_SECONDS = 30.0
"""What one that has served may take."""
_UNKILLABLE_SECONDS = 5.0
_SEND_BUFFER_BYTES = 1 << 20
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_CHILD = "import sys; from avpipe.pipeline.media.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"


class DecoderProcess:
    """A child that decodes one clip at a time. One thread uses it; any other may only `kill` it.

    It dies with the thread that made it.

    Args:
        settings: what it is to do.
        content: whether its answers hold the media that are wanted, and are checked for them.

    Raises:
        EnvironmentLacking: the system starts no further process.
    """

    def __init__(self, settings: Settings, content: bool) -> None:
        self._wanted: MediaSpec | None = settings.spec if content else None
        try:
            self._channel, theirs = socket.socketpair()
            with theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                self._process = _launch(theirs.fileno())
        except OSError as error:
            raise EnvironmentLacking(
                f"no decoder process can be started ({error.strerror}): too many already?"
            ) from error
        self._first_bytes = 0
        self.served = 0
        """Clips that were answered."""
        with contextlib.suppress(wire.Closed, wire.Late):  # which shows with the first clip
            wire.send_order(self._channel, settings, STARTUP_SECONDS)

    def take(self, clip: Clip) -> None:
        """Hands a clip over; returns when it is taken up.

        Raises:
            wire.Late, wire.Closed, wire.Garbled: it is not, through no fault of the clip.
        """
        seconds = TAKE_UP_SECONDS if self.served else STARTUP_SECONDS
        wire.send_order(self._channel, (self.served, clip), seconds)
        header = wire.receive_header(self._channel, Deadline(seconds, self._process.pid))
        if header.get("serial") != self.served:
            raise wire.Garbled("a word about another clip")
        if not self.served:
            self._first_bytes = memory_of(header)

    def answer(self, clip: Clip, seconds: float) -> Answer:
        """The answer to the clip that was taken up, which must be here as a whole within `seconds` (see `Deadline`).

        Raises:
            wire.Late, wire.Closed, wire.Garbled: it is not. The process must be ended.
        """
        answer = read_answer(self._channel, clip, self._wanted, self.served, Deadline(seconds, self._process.pid))
        self.served += 1
        return answer

    def grown(self, memory_bytes: int, limit_bytes: int | None) -> bool:
        """Whether it has kept more than half of the memory that it had at its start."""
        return limit_bytes is not None and memory_bytes > (self._first_bytes + limit_bytes) / 2

    def kill(self) -> None:
        """Kills it, and the processes that a decoder has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, grace_seconds: float = 0.0) -> int | None:
        """Waits for it to end by itself, then kills it, and whatever is left of what it has started.

        Returns:
            its exit status (negative: a signal), None if it did not end by itself.
        """
        self._channel.close()
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(grace_seconds)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # one stuck in the kernel (a dead drive) is left behind
            self._process.wait(_UNKILLABLE_SECONDS)
        return status


def _launch(number: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter, not a fork (threads hold locks) and not multiprocessing's (it would run the user's script).

    It leads a process group, so that Ctrl-C in the terminal reaches the parent alone.
    """
    command = [sys.executable, "-P", "-c", _CHILD, str(number), str(os.getpid())]
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, **_SINGLE_THREADED, "PYTHONPATH": paths}
    return subprocess.Popen(
        command, env=environment, pass_fds=(number,), process_group=0, stdin=subprocess.DEVNULL, stdout=2
    )
