"""Progress events, without printing: libraries report, the command line decides how it looks.

    with progress.task("extract", total=120, unit="clips") as task:
        task.advance(3)

By default reports go nowhere. `use(reporter)` installs one for the process; `avpipe.cli.render` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Adds `amount` of the task's unit as done; `note` replaces the short text shown beside the bar."""


class Reporter(Protocol):
    """Shows tasks somewhere."""

    def begin(self, name: str, total: float | None, unit: str, done: float) -> Task:
        """Starts showing a task of which `done` is done already."""

    def end(self, task: Task) -> None:
        """Stops showing a task."""

    def say(self, line: str) -> None:
        """Shows one line of information."""


class _Silent:
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass

    def begin(self, name: str, total: float | None, unit: str, done: float) -> Task:
        return self

    def end(self, task: Task) -> None:
        pass

    def say(self, line: str) -> None:
        pass


_reporter: Reporter = _Silent()


def use(reporter: Reporter) -> None:
    """Installs the reporter of this process."""
    global _reporter
    _reporter = reporter


def say(line: str) -> None:
    """Reports one line of information."""
    _reporter.say(line)


@contextmanager
def task(name: str, total: float | None, unit: str = "", done: float = 0) -> Iterator[Task]:
    """A task that is shown while the block runs.

    Args:
        name: short description.
        total: amount of work in `unit`, or None where it is not known.
        unit: plural noun, such as `clips`.
        done: part of `total` that was done before.
    """
    handle = _reporter.begin(name, total, unit, done)
    try:
        yield handle
    finally:
        _reporter.end(handle)
