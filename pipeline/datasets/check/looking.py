"""Looks at many files: side by side, in processes that can be killed, since a file may hang or crash FFmpeg."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from avpipe.pipeline.datasets.check.look import Look, look
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec
from avpipe.pipeline.media.sandbox import DecodePool
from avpipe.pipeline.progress import Task
from avpipe.pipeline.timeline import Timeline

BATCH = 32
"""Files that a process is given at a time. Where it dies or hangs over them, each is looked at again alone."""
DEADLINE_SECONDS = 60.0
"""For a batch, or for one file."""
MEMORY_LIMIT_BYTES = 2 << 30

Seen = dict[Path, Look]
_Batches = dict["Future[DecodedClip]", tuple[str, Sequence[Path]]]


class Lookout:
    """Looks at files; a context manager.

    Args:
        workers: processes; 0 looks in this process, without protection from files that crash or hang a library.
        quick: existence, size and first bytes only.
    """

    def __init__(self, workers: int, quick: bool = False) -> None:
        self.quick, self._pool = quick, None
        if workers > 0 and not quick:  # first bytes need no library that could crash
            self._pool = DecodePool(
                MediaSpec(Timeline(), None, audio=True),
                workers=workers,
                deadline_seconds=DEADLINE_SECONDS,
                memory_limit_bytes=MEMORY_LIMIT_BYTES,
                decode=look_at_batch,
                content=False,
            )
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Lookout:
        if self._pool is not None:
            self._open.enter_context(self._pool)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def look(self, files: Mapping[Path, str], task: Task) -> Seen:
        """Looks at files that exist.

        Args:
            files: role of each file.
            task: is advanced by each file.
        """
        if self._pool is None:
            seen = {}
            for path, role in files.items():
                seen[path] = look(role, path, self.quick)
                task.advance()
            return seen
        return self._in_processes(self._pool, files, task)

    def _in_processes(self, pool: DecodePool, files: Mapping[Path, str], task: Task) -> Seen:
        waiting: _Batches = {_submit(pool, role, batch): (role, batch) for role, batch in _batches(files)}
        seen: Seen = {}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                role, batch = waiting.pop(future)
                try:
                    looks = _unpack(future.result())
                except InputRejected as rejected:
                    if len(batch) > 1:
                        waiting |= {_submit(pool, role, (path,)): (role, (path,)) for path in batch}
                        continue
                    looks = [Look("broken-header", f"cannot be opened: {rejected.reason.split(': ', 1)[-1]}")]
                seen.update(zip(batch, looks, strict=True))
                task.advance(len(batch))
        return seen


def _batches(files: Mapping[Path, str]) -> Iterator[tuple[str, Sequence[Path]]]:
    roles: dict[str, list[Path]] = {}
    for path, role in files.items():
        roles.setdefault(role, []).append(path)
    for role, paths in roles.items():
        for at in range(0, len(paths), BATCH):
            yield role, paths[at : at + BATCH]


def _submit(pool: DecodePool, role: str, batch: Sequence[Path]) -> Future[DecodedClip]:
    return pool.submit(Clip(role, len(batch), frames=tuple(batch)))


def look_at_batch(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """What a process runs: `clip.frames` are files and `clip.id` their role; the looks are in the provenance."""
    began = time.perf_counter()
    looks = [look(clip.id, path) for path in clip.frames or ()]
    text = json.dumps([(seen.kind, seen.what, seen.facts) for seen in looks])
    return DecodedClip(None, None, {}, {"looks": text}, time.perf_counter() - began)


def _unpack(answer: DecodedClip) -> list[Look]:
    return [Look(*fields) for fields in json.loads(answer.provenance["looks"])]
