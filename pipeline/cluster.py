"""Dask: where work runs. What is done is decided by the ledger, so a task may run twice and be seen once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AHEAD = 2
"""Tasks handed to each worker at a time: one runs, one waits."""


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
        """Results of `function(*task)` for every task, as they come; hands out nothing new once `stop()` is true."""
        from distributed import KilledWorker, as_completed

        waiting = iter(tasks)
        window = AHEAD * max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
        futures = as_completed(raise_errors=False)
        for task in islice(waiting, window):
            futures.add(self._client.submit(function, *task, pure=False))
        for future in futures:
            try:
                yield future.result()
            except KilledWorker as error:
                raise AvpipeError(
                    f"workers died again and again on one task: {error}; what was committed is kept, "
                    "run the same command again, with fewer workers if memory ran out"
                ) from error
            for task in islice(waiting, 0 if stop() else 1):
                futures.add(self._client.submit(function, *task, pure=False))


@contextmanager
def dask_executor(*, workers: int = 0, scheduler: str | None = None) -> Iterator[DaskExecutor]:
    """A Dask cluster for as long as the block runs.

    Args:
        workers: size of a local cluster, one process each.
        scheduler: address of a running scheduler (`tcp://host:8786`); used instead of a local cluster.

    Raises:
        EnvironmentLacking: no scheduler answers at the address.
    """
    import dask
    from distributed import Client, LocalCluster

    threads = str(max(1, (os.cpu_count() or 1) // max(1, workers)))
    settings = {
        "distributed.worker.daemon": False,  # daemonic workers may not have children, and decoders are children
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
        ),
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
                yield DaskExecutor(client)
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
