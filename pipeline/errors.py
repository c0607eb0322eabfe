"""Errors, classed by what the caller can do about them. Each class carries the exit code of the command line."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path

_SHOWN = 200
"""Characters of a value that a message repeats."""


class AvpipeError(Exception):
    """Base of every error that avpipe raises on purpose: one clear message, no traceback needed."""

    exit_code = 1


class UsageError(AvpipeError, ValueError):
    """The request is wrong: an unknown name, a missing file, options that clash. Change the request."""

    exit_code = 2


class UnusableAnnotations(UsageError):
    """A file of annotations cannot be used at all: missing, damaged, or of something else. Fetch or repair it.

    Args:
        where: the file, with a line where there is one.
        what: what is wrong with it, as the rest of a sentence, and what to do next.
    """

    def __init__(self, where: Path | str, what: str) -> None:
        super().__init__(where, what)  # both of them, so that it survives pickling
        self.where, self.what = str(where), what

    def __str__(self) -> str:
        return f"annotation file {self.where} {self.what}"


class InputRejected(AvpipeError):
    """One input (a video, a frame folder, a wav) cannot be used. It is quarantined; the run goes on.

    Args:
        reason: what is wrong with the input, one line, naming the file.
        stage: where it was found: for a clip, one of `quarantine.STAGES`.
        hint: what the user can do.

    Attributes:
        seconds: work that it has cost to find out; set where a decoder was at it.
    """

    exit_code = 3
    seconds = 0.0

    def __init__(self, reason: str, *, stage: str, hint: str = "") -> None:
        super().__init__(reason, stage, hint)  # all of them, so that it survives pickling
        self.reason, self.stage, self.hint = reason, stage, hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_rejection, (self.reason, self.stage, self.hint), self.__dict__

    def __str__(self) -> str:
        return f"{self.reason} ({self.hint})" if self.hint else self.reason


def _rebuild_rejection(reason: str, stage: str, hint: str) -> InputRejected:
    return InputRejected(reason, stage=stage, hint=hint)


class CacheMismatch(AvpipeError):
    """The cache was made with another spec. Use another directory, or the spec of the cache."""

    exit_code = 4


class CorruptionFound(AvpipeError):
    """Bytes that were committed are missing or changed. The message names clip, tap and shard."""

    exit_code = 5


class EnvironmentLacking(AvpipeError):
    """The machine lacks something: weights, a decoder, write permission, disk space."""

    exit_code = 6


def unknown_name(kind: str, name: str, known: Iterable[str], *, listing: str = "", cutoff: float = 0.5) -> UsageError:
    """A `UsageError` for a name that is not known, with the nearest known one.

    Args:
        kind: what was asked for, such as `dataset` or `layer`.
        name: the name given.
        known: every name that would have been accepted.
        listing: what to say when nothing is near, such as `avpipe data ls lists them`.
        cutoff: how near a name must be to be offered, 0 to 1 (difflib's ratio).
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if near:
        tail = f"did you mean {near[0]!r}?"
    elif listing:
        tail = listing
    else:
        tail = f"known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
    return UsageError(f"unknown {kind} {shown(name)}: {tail}")


def shown(value: object) -> str:
    """A value as a message repeats it: a text in quotes, and what is long is cut."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}... ({len(value)} characters)"
    return reprlib.repr(value)
