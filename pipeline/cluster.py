"""Dask: where work runs. What is done is decided by the ledger, so a task may run twice and be seen once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class DaskExecutor:
    """Runs functions on the workers of a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs one function on some worker and waits for it."""
        return self._client.submit(function, *args, pure=False).result()

    def each(
        self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], stop: Callable[[], bool]
    ) -> Iterator[Any]:
        """Results of `function(*task)` for every task, as they come; hands out nothing new once `stop()` is true.

        Each worker has one task at a time, so that after a `stop` only the open ones are waited for.
        """
        from distributed import KilledWorker, as_completed

        waiting, running = iter(tasks), 0
        futures = as_completed(raise_errors=False)
        while True:
            for task in islice(waiting, 0 if stop() else max(1, len(self._client.nthreads())) - running):
                futures.add(self._client.submit(function, *task, pure=False))
                running += 1
            if not running:
                return
            try:
                result = next(futures).result()
            except KilledWorker as error:
                raise AvpipeError(
                    f"workers died again and again on one task: {error}; what was committed is kept, "
                    "run the same command again, with fewer workers if memory ran out"
                ) from error
            running -= 1
            yield result


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker process, since this module is its preload; also in workers that are restarted.

    Ctrl-C reaches the whole process group, but only the client decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
                client = Client(scheduler, timeout="20s")
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
