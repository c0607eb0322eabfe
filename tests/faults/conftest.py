"""Stopping a program before any of its operations on files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from avpipe.pipeline.cache import durable

STEPS = ("make_folder", "sync_folder", "sync_file", "write_file", "rename", "link", "remove")


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable[[], None]], list[str]]:
    """Calls a function before the n-th operation on files that follows; returns the log of operations."""

    def install(number: int, action: Callable[[], None]) -> list[str]:
        log: list[str] = []
        for name in STEPS:
            monkeypatch.setattr(durable, name, _interposed(getattr(durable, name), name, log, number, action))
        return log

    return install


def _interposed(original, name, log, number, action):
    def operation(*args):
        log.append(name)
        if len(log) == number + 1:
            action()
        return original(*args)

    return operation
