"""Dask: where work runs. What is done is decided by the ledger, so a task may run twice and be seen once."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking

POLL_SECONDS = 1.0
"""How often an idle worker looks for a task that could not be handed out before."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class DaskExecutor:
    """Runs functions on the workers of a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs one function on some worker and waits for it."""
        return self._client.submit(function, *args, pure=False).result()

    def each(
        self, function: Callable[..., Any], take: Callable[[], tuple[Any, ...] | None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Any, Any]]:
        """Tasks and the results of `function(*task)`, as they come; hands out nothing new once `stop()` is true.

        Each worker has one task at a time, so that after a `stop` only the open ones are waited for. Ends when nothing
        runs and `take` has nothing.

        Args:
            function: what the workers run.
            take: the next task, None where there is none just now.
            stop: whether to hand out nothing more.
        """
        from distributed import wait

        running: dict[Any, tuple[Any, ...]] = {}
        while True:
            slots = max(1, len(self._client.nthreads()))
            while len(running) < slots and not stop() and (task := take()) is not None:
                running[self._client.submit(function, *task, pure=False)] = task
            if not running:
                return
            with suppress(TimeoutError):
                wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                yield running.pop(future), _result(future)


def _result(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise AvpipeError(
            f"workers died again and again on one task: {error}; what was committed is kept, "
            "run the same command again, with fewer workers if memory ran out"
        ) from error


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker process, since this module is its preload; also in workers that are restarted.

    Ctrl-C reaches the whole process group, but only the client decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").addFilter(_worth_saying)


def _worth_saying(record: logging.LogRecord) -> bool:
    """False for a heartbeat that meets a closed connection: at the end of a run the scheduler lets its workers go.

    Where a scheduler is lost in the middle of a run, the client says so.
    """
    from distributed.comm.core import CommClosedError

    return not (record.exc_info and isinstance(record.exc_info[1], CommClosedError))


@contextmanager
def dask_executor(
    *, workers: int = 0, scheduler: str | None = None, clean_up: Callable[[], None]
) -> Iterator[DaskExecutor]:
    """A Dask cluster for as long as the block runs.

    Args:
        workers: size of a local cluster, one process each.
        scheduler: address of a running scheduler (`tcp://host:8786`); used instead of a local cluster.
        clean_up: run on the workers of a running scheduler before and after, since they outlive this process.

    Raises:
        EnvironmentLacking: no scheduler answers at the address.
    """
    import dask
    from distributed import Client, LocalCluster

    threads = str(max(1, cores() // max(1, workers)))
    settings = {
        "distributed.worker.daemon": False,  # daemonic workers may not have children, and decoders are children
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, threads),
        "distributed.worker.preload": ["avpipe.pipeline.cluster"],
        "distributed.admin.tick.limit": "1h",  # a busy backbone holds the GIL for long, and that is fine
    }
    with dask.config.set(settings):
        if scheduler:
            try:
                client = Client(scheduler)  # waits as long as Dask is configured to
            except (OSError, TimeoutError, ValueError) as error:
                raise EnvironmentLacking(
                    f"no Dask scheduler answers at {scheduler!r} ({error}): start one with `dask scheduler`, "
                    "or use --workers N for a local cluster"
                ) from error
            with client:
                client.run(clean_up)
                try:
                    yield DaskExecutor(client)
                finally:
                    client.run(clean_up)
        else:
            with (
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address=None,
                    silence_logs="ERROR",
                ) as cluster,
                Client(cluster) as client,
            ):
                yield DaskExecutor(client)
