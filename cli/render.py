"""Everything that avpipe prints: results to stdout, progress and information to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avpipe.pipeline import progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_SECONDS = 2.0
"""A task shorter than this is not shown."""
LOG_SECONDS = 5.0
"""Time between two lines of one task where stderr is no terminal."""


class OutputClosed(Exception):
    """Nobody reads stdout any more: `| head` has seen enough."""


def line(text: str = "") -> None:
    """One line of a result, to stdout. Bytes of file names that are no text come as `\\udcff`, as JSON has them.

    Raises:
        OutputClosed: nobody reads it.
    """
    try:
        print(text.encode("utf-8", "backslashreplace").decode())
    except BrokenPipeError:
        raise OutputClosed from None


def emit_json(value: object) -> None:
    """A JSON document, to stdout."""
    line(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with aligned columns, to stdout; columns of numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(columns)]
    numeric = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]

    def render(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    for text in (columns, ["-" * width for width in widths], *cells):
        line(render(text))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"
    return "" if value is None else str(value)


def human_bytes(count: float) -> str:
    """Bytes with a binary unit, such as `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    total = max(0, round(seconds))
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def install_reporter() -> None:
    """Shows progress as bars on a terminal, and as plain lines elsewhere."""
    progress.use(_Bars() if sys.stderr.isatty() else _Lines())


class _LineTask:
    """A task shown as one plain line now and then."""

    def __init__(self, name: str, total: float | None, unit: str, done: float) -> None:
        self.name, self.total, self.unit, self.note = name, total, unit, ""
        self.begun, self.before, self.done = time.monotonic(), done, done
        self.shown = self.begun - LOG_SECONDS + QUIET_SECONDS  # so that the first line comes after QUIET_SECONDS

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done, self.note = self.done + amount, note
        if time.monotonic() - self.shown >= LOG_SECONDS:
            self.show()

    def show(self) -> None:
        self.shown = time.monotonic()
        seconds = self.shown - self.begun
        rate = (self.done - self.before) / seconds if seconds else 0.0
        parts = [f"{self.done:g}" + (f"/{self.total:g}" if self.total is not None else "") + f" {self.unit}".rstrip()]
        parts.append(f"{rate:.1f}/s")
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"ETA {clock((self.total - self.done) / rate)}")
        parts += [self.note] if self.note else []
        print(f"{self.name}: {', '.join(parts)}", file=sys.stderr, flush=True)


class _Lines:
    def begin(self, name: str, total: float | None, unit: str, done: float) -> progress.Task:
        return _LineTask(name, total, unit, done)

    def end(self, task: progress.Task) -> None:
        assert isinstance(task, _LineTask)
        if time.monotonic() - task.begun >= QUIET_SECONDS:
            task.show()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _BarTask:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.bars.update(self.task, advance=amount, note=note)


class _Bars:
    """One live display for all running tasks of the process."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._open = 0

    def begin(self, name: str, total: float | None, unit: str, done: float) -> progress.Task:
        if self._bars is None:
            self._bars = _make_bars()
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(name, total=total, completed=done, unit=unit, note="")
        return _BarTask(self._bars, task)

    def end(self, task: progress.Task) -> None:
        self._open -= 1
        if self._open == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None

    def say(self, line: str) -> None:
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _make_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:g}/{task.total:g} {task.fields[unit]}", markup=False),
        Rate(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
        console=Console(stderr=True),
        expand=True,
    )
