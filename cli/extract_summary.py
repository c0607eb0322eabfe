"""What `avpipe extract` says at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.cli import render

if TYPE_CHECKING:
    from avpipe.stages.extract import ExtractSummary


def show_summary(summary: ExtractSummary, as_json: bool = False) -> None:
    """Prints what an extraction did."""
    if as_json:
        from dataclasses import asdict

        render.emit_json(asdict(summary))
        return
    place = summary.cache.relative_to(Path.cwd()) if summary.cache.is_relative_to(Path.cwd()) else summary.cache
    rate = f", {summary.extracted / summary.seconds:.1f} clips/s" if summary.extracted else ""
    render.line(
        f"{place}: {summary.clips} clips cached, {summary.extracted} of them now, "
        f"{len(summary.quarantined)} quarantined, {summary.left} left ({summary.seconds:.1f} s{rate})"
    )
    for entry in summary.quarantined:
        render.line(f"  quarantined {entry.clip}: {entry.reason}" + (f" ({entry.hint})" if entry.hint else ""))
