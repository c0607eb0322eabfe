"""The shards that a reader has open: as many as the system allows."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from typing import get_args

from avpipe.pipeline.cache.files import FileAccess, Shard
from avpipe.pipeline.cache.layout import ArraySpec, Layout
from avpipe.pipeline.cache.records import CommittedFile

_MANY = 4096


class OpenShards:
    """Keeps shards open, the least recently used of them closed first. Safe to share between threads."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Python's mmap keeps a descriptor of its own, so a mapped shard has two; half of all stay free for others.
        self._limit = min(max(soft // 4, 8), _MANY) if soft != resource.RLIM_INFINITY else _MANY
        self._shards: OrderedDict[tuple[str, int, FileAccess], Shard] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, layout: Layout, file: CommittedFile, array: ArraySpec, unit: int, unit_rows: int, access: FileAccess
    ) -> Shard:
        """The shard of a committed file, opened if need be; raises `ShardDamaged`."""
        key = (array.name, unit, access)
        shard = self._shards.get(key)
        if shard is not None and shard.file is file and 2 * len(self._shards) <= self._limit:
            return shard  # far from the limit nobody has to know which was used last
        with self._lock:
            shard = self._shards.get(key)
            if shard is None or shard.file is not file:
                shard = self._shards[key] = Shard(layout, file, array, unit_rows, access)
                if len(self._shards) > self._limit:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(key)
        return shard

    def drop(self, array: ArraySpec, unit: int) -> None:
        """Lets go of a shard, so that it is opened anew when it is needed again."""
        with self._lock:
            for access in get_args(FileAccess):
                self._shards.pop((array.name, unit, access), None)
