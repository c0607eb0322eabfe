"""Lines about quarantined clips, a few however many there are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Quarantined

LISTED = 8
"""Clips that get a line each, or kinds of reasons where there are more clips."""


def rejection_lines(entries: Sequence[Quarantined], cache: Path) -> list[str]:
    """What to print of quarantined clips: a line each where they are few, else one for each kind of reason.

    Args:
        entries: the clips.
        cache: folder of the cache, for the commands.
    """
    if not entries:
        return []
    from avpipe.pipeline.quarantine import kinds

    if len(entries) <= LISTED:
        lines = [f"  quarantined {_reason(entry)}" for entry in entries]
    else:
        groups = kinds(entries)
        shown = groups[: LISTED if len(groups) <= LISTED else LISTED - 1]
        lines = [f"  quarantined {_group(group.stage, group.entries)}" for group in shown]
        if rest := groups[len(shown) :]:
            lines.append(f"  quarantined {sum(len(group.entries) for group in rest)} for {len(rest)} other reasons")
    commands = f"all of them: {command('ls', cache)}; once they are mended: {command('retry', cache)}"
    return [*lines, f"  {commands}"]


def command(name: str, cache: Path | str) -> str:
    """An `avpipe quarantine` command, ready to paste."""
    return shlex.join(["avpipe", "quarantine", name, "--cache", str(cache)])


def _group(stage: str, entries: Sequence[Quarantined]) -> str:
    such = f", such as {_reason(entries[0])}" if len(entries) > 1 else f": {_reason(entries[0])}"
    return f"{len(entries)} at {stage}{such}"


def _reason(entry: Quarantined) -> str:
    return f"{entry.clip}: {entry.reason}" + (f" ({entry.hint})" if entry.hint else "")
