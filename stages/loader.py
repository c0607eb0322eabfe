"""Batches on their way to the model: read ahead by a thread into a few buffers that are used again and again.

reader = BatchReader(store, size=8, device=torch.device("cpu"))
with reader.batches(data, order) as batches:
    for batch in batches:
        ...  # the batch is good until the next one is asked for
reader.waited  # seconds in which nothing could be computed for want of data
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import torch
from torch import Tensor

from avpipe.pipeline.errors import UsageError
from avpipe.stages.feature_store import FeatureStore, copy_mark
from avpipe.stages.features import ClipFeatures, FeatureBatch
from avpipe.stages.residency import refuse_too_large

Buffers = dict[str, Tensor]
Order = Sequence[Sequence[int]]
AHEAD = 2
"""Batches that are read while one is computed on."""


class BatchReader:
    """Batches of a store's features, on the device of the model.

    From disk or memory a thread reads `AHEAD` batches ahead, into a ring of one buffer more than that (pinned for
    CUDA). The batch that was handed out is the one more: its buffer goes back to the thread when the next batch is
    asked for, so a graph of autograd must be done with by then. From the GPU batches are gathered in place.

    Args:
        store: where the features are.
        size: samples in a batch at most.
        device: where batches are wanted.

    Attributes:
        waited: seconds spent waiting for batches so far; starting copies to the GPU counts.

    There is one ring, so one block of `batches` at a time.
    """

    def __init__(self, store: FeatureStore, size: int, device: torch.device) -> None:
        self.store, self.size, self.device = store, size, device
        self.waited = 0.0
        self._ring: list[Buffers] = []
        self._in_use = threading.Lock()

    @contextmanager
    def batches(self, data: ClipFeatures, order: Order) -> Iterator[Iterator[FeatureBatch]]:
        """Batches of `data` (on the reader's store) for each list of places in `order`.

        Whatever goes wrong in the thread is raised where the batches are taken. Leaving the block ends the thread,
        wherever it is, also on an error or Ctrl-C.

        Raises:
            UsageError: the buffers do not fit into memory, or another block of this reader is open.
        """
        if not self._in_use.acquire(blocking=False):
            raise UsageError("this BatchReader is being read from: leave that block first, or make another BatchReader")
        try:
            if self.store.residency == "gpu":
                yield self._gathered(data, order)
            else:
                with self._read_ahead(data, order) as batches:
                    yield batches
        finally:
            self._in_use.release()

    @contextmanager
    def _read_ahead(self, data: ClipFeatures, order: Order) -> Iterator[Iterator[FeatureBatch]]:
        free: SimpleQueue[Buffers | None] = SimpleQueue()
        ready: SimpleQueue[tuple[FeatureBatch, Buffers] | BaseException] = SimpleQueue()
        for buffers in self._buffers():
            free.put(buffers)
        stop = threading.Event()
        thread = threading.Thread(target=_read, args=(data, order, free, ready, stop), name="read ahead", daemon=True)
        thread.start()
        try:
            yield self._taken(len(order), free, ready)
        finally:
            stop.set()
            free.put(None)
            thread.join()

    def _taken(
        self,
        count: int,
        free: SimpleQueue[Buffers | None],
        ready: SimpleQueue[tuple[FeatureBatch, Buffers] | BaseException],
    ) -> Iterator[FeatureBatch]:
        for _ in range(count):
            start = time.perf_counter()
            found = ready.get()
            if isinstance(found, BaseException):
                raise found
            batch, buffers = found
            there = batch.to(self.device)
            copied = copy_mark(self.device)
            self.waited += time.perf_counter() - start
            yield there
            if copied is not None:
                copied.synchronize()
            free.put(buffers)

    def _gathered(self, data: ClipFeatures, order: Order) -> Iterator[FeatureBatch]:
        for indices in order:
            start = time.perf_counter()
            batch = data.batch(indices).to(self.device)
            self.waited += time.perf_counter() - start
            yield batch

    def _buffers(self) -> list[Buffers]:
        """The ring, made at the first use."""
        if not self._ring:
            rows, pinned = self.size * self.store.longest, self.device.type == "cuda"
            refuse_too_large((AHEAD + 1) * rows * self.store.row_bytes, f"{AHEAD + 1} batches of {self.size} samples")
            self._ring = [self.store.buffers(rows, pinned=pinned) for _ in range(AHEAD + 1)]
        return self._ring


def _read(
    data: ClipFeatures,
    order: Order,
    free: SimpleQueue[Buffers | None],
    ready: SimpleQueue[tuple[FeatureBatch, Buffers] | BaseException],
    stop: threading.Event,
) -> None:
    """What the thread does: a batch into every buffer that comes free, until all are read or it is told to stop."""
    try:
        for indices in order:
            buffers = free.get()
            if buffers is None or stop.is_set():
                return
            ready.put((data.batch(indices, out=buffers), buffers))
    except BaseException as error:
        ready.put(error)
