"""Decoding in processes that can be killed: a crash, a hang or a blow-up costs the clip it happened on."""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import Future
from types import TracebackType

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.child import Decode, Settings
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec, decode_clip
from avpipe.pipeline.media.keeper import Job, Keeper
from avpipe.pipeline.media.limits import DEADLINE_SECONDS, MEMORY_LIMIT_BYTES

DecodeFuture = Future[DecodedClip]


class DecodePool:
    """Decodes clips side by side, each child process one at a time. A context manager; leaving it ends every child.

        with DecodePool(spec, workers=2) as pool:
            decoded = [pool.submit(clip) for clip in clips]
            decoded[0].result()

    Children die with their parent and do not hear Ctrl-C. Any thread of any process may make a pool, daemons included
    (a Dask worker is one).

    Args:
        spec: what is wanted from each clip.
        workers: number of children.
        deadline_seconds: time that a clip may take, from when its child takes it up.
        memory_limit_bytes: data memory that one child may have in all, None for no limit. Linux only. A child that
            has kept half of it is replaced.
        decode: what the children run; a function at the top level of an importable module.
        content: whether `decode` returns the media that `spec` wants. Then every answer is checked for them, and one
            with other types, shapes or masks rejects its clip. False: it returns none, and answers by `provenance`.

    Raises:
        UsageError: no workers, or no time.
    """

    def __init__(
        self,
        spec: MediaSpec,
        *,
        workers: int = 1,
        deadline_seconds: float = DEADLINE_SECONDS,
        memory_limit_bytes: int | None = MEMORY_LIMIT_BYTES,
        decode: Decode = decode_clip,
        content: bool = True,
    ) -> None:
        if workers < 1 or deadline_seconds <= 0:
            raise UsageError(f"{workers} decode workers with {deadline_seconds:g} s a clip: both must be above 0")
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        settings = Settings(decode, spec, memory_limit_bytes)
        self._keepers = [Keeper(self._jobs, settings, deadline_seconds, content) for _ in range(workers)]

    def __enter__(self) -> DecodePool:
        for keeper in self._keepers:
            keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, clip: Clip) -> DecodeFuture:
        """Queues a clip.

        Returns:
            A future. Its `result()` is the decoded clip, or raises InputRejected (this clip cannot be used: stage
            `decode` where the child crashed, hung or ran out of memory), another AvpipeError (no clip can be decoded
            here), or CancelledError (the pool was closed).

        Raises:
            RuntimeError: the pool is closed.
        """
        future: DecodeFuture = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the decode pool is closed")
            self._jobs.put((clip, future))
        return future

    def close(self) -> None:
        """Ends every child at once; clips that were not decoded are cancelled. Safe to call twice."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job[1].cancel()
        for keeper in self._keepers:
            keeper.stop()
            self._jobs.put(None)
        for keeper in self._keepers:
            if keeper.is_alive():
                keeper.join()
