"""What `avpipe extract` says at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.cli import render
from avpipe.cli.rejections import rejection_lines
from avpipe.cli.stand_ins import stand_in_line

if TYPE_CHECKING:
    from avpipe.stages.extract import ExtractSummary
    from avpipe.stages.stage_clock import StageReport


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
    for text in stage_lines(summary.stages, summary.bottleneck):
        render.line(text)
    if text := stand_in_line(summary.stand_ins):
        render.line(f"  {text}")
    for text in rejection_lines(summary.quarantined, place):
        render.line(text)


def stage_lines(stages: Sequence[StageReport], bottleneck: str | None) -> list[str]:
    """How busy each stage was, and what to do about the busiest one; nothing where nothing was done."""
    from avpipe.stages.stage_clock import ADVICE

    if not stages:
        return []
    parts = []
    for stage in stages:
        lanes = f" of {stage.lanes}" if stage.lanes > 1 else ""
        parts.append(f"{stage.name} {stage.busy_share:.0%}{lanes} ({_ms(stage.p50_ms)}/{_ms(stage.p99_ms)} ms)")
    found = f"{bottleneck}: {ADVICE[bottleneck]}" if bottleneck else "none, no stage was busy for half of the time"
    return [f"  busy (P50/P99 of a clip, of a unit for commit): {', '.join(parts)}", f"  bottleneck: {found}"]


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
