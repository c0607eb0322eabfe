"""Threads that work one behind the other, each with a queue of its own that is bounded in jobs and in bytes.

Whoever hands over more than a queue takes waits, so the slowest lane sets the pace and memory stays flat. The first
error of any lane stops them all, and is raised again wherever something is handed over next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]

MOST_JOBS = 2
"""Jobs of one lane that were handed over and are not done: one that runs and one that waits."""
MOST_BYTES = 256 << 20
"""Bytes that they may hold together; a single job may hold more."""


class Trouble:
    """What stopped a group of lanes, if anything did.

    Attributes:
        changed: notified when a job came or ended, or a lane failed.
        error: the first error, None as long as all is well.

    Args:
        told: called once with the first error, in the thread that met it.
    """

    def __init__(self, told: Callable[[BaseException], None] = lambda error: None) -> None:
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self._told = told

    def stop(self, error: BaseException) -> None:
        """Stops every lane of the group: what waits in their queues is not done any more."""
        with self.changed:
            if self.error is not None:
                return
            self.error = error
            self.changed.notify_all()
        self._told(error)


class AtOnce:
    """In place of a lane: does each job at once in the thread that hands it over, where it raises what goes wrong."""

    def __init__(self, name: str, trouble: Trouble) -> None:
        pass

    def put(self, job: Job, nbytes: int = 0) -> None:
        """Does the job."""
        job()

    def join(self) -> None:
        """Nothing is left to wait for."""


class Lane(threading.Thread):
    """One thread that does jobs in the order in which they are handed over. Starts at once.

    Args:
        name: of the thread.
        trouble: shared with the other lanes of the group.
        most_jobs: jobs that may be in its hands, the running one included.
        most_bytes: bytes that they may hold together.
    """

    def __init__(
        self, name: str, trouble: Trouble, *, most_jobs: int = MOST_JOBS, most_bytes: int = MOST_BYTES
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._trouble, self._most_jobs, self._most_bytes = trouble, most_jobs, most_bytes
        self._jobs: deque[tuple[Job, int]] = deque()
        self.start()

    def put(self, job: Job, nbytes: int = 0) -> None:
        """Hands over a job; waits until there is room for it.

        Args:
            job: is called in the lane's thread.
            nbytes: memory that it holds until it is done.

        Raises:
            BaseException: what stopped the lanes.
        """
        with self._trouble.changed:
            self._trouble.changed.wait_for(lambda: self._trouble.error is not None or self._has_room(nbytes))
            if self._trouble.error is not None:
                raise self._trouble.error
            self._jobs.append((job, nbytes))
            self._trouble.changed.notify_all()

    def run(self) -> None:
        """Does jobs until the group is stopped."""
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException as error:  # whatever it is, it belongs to the one who handed over the job
                self._trouble.stop(error)
            del job  # with what it holds, before there is room for another
            with self._trouble.changed:
                self._jobs.popleft()
                self._trouble.changed.notify_all()

    def _next(self) -> Job | None:
        """The job to do now, which keeps its place in the queue until it is done; None at the end."""
        with self._trouble.changed:
            self._trouble.changed.wait_for(lambda: self._trouble.error is not None or bool(self._jobs))
            return None if self._trouble.error is not None else self._jobs[0][0]

    def _has_room(self, nbytes: int) -> bool:
        held = sum(size for _, size in self._jobs)
        return not self._jobs or (len(self._jobs) < self._most_jobs and held + nbytes <= self._most_bytes)
