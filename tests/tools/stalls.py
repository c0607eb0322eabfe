"""Stopping a writer before any one of its file operations, while something else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from avpipe.pipeline.cache import durable

OPERATIONS = ("make_folder", "sync_folder", "sync_file", "write_file", "rename", "link", "remove")


@contextmanager
def before_operation(number: int | None, action: Callable[[], object] = lambda: None) -> Iterator[list[str]]:
    """Calls `action` before the file operation `number` of the block, counted from 0; gives the log of operations."""
    log: list[str] = []
    originals = {name: getattr(durable, name) for name in OPERATIONS}

    def interposed(name):
        def operation(*args):
            log.append(name)
            if number is not None and len(log) == number + 1:
                action()
            return originals[name](*args)

        return operation

    for name in OPERATIONS:
        setattr(durable, name, interposed(name))
    try:
        yield log
    finally:
        for name, original in originals.items():
            setattr(durable, name, original)
