"""What became of one unit of work, in a form that travels between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from avpipe.stages.stage_clock import Durations


@dataclass(frozen=True)
class UnitOutcome:
    """What became of one unit of work.

    Attributes:
        unit: its number.
        won: False where another process had committed it first, or holds it.
        clips: ids that were extracted.
        rejected: ids that were quarantined, with the reason.
        seconds: work by stage (`stage_clock.STAGES`), and `wait`: how long the backbone waited for media.
        holder: name of the writer that works on it, so that nothing was done here; "" otherwise.
        stages: durations of the clips' work by stage.
        lanes: clips that each stage could work on at once, where that was not one.
        process: host and number of the process that did it.
        span: when it began and ended, seconds since 1970.
    """

    unit: int
    won: bool
    clips: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    holder: str = ""
    stages: Mapping[str, Durations] = field(default_factory=dict)
    lanes: Mapping[str, int] = field(default_factory=dict)
    process: str = ""
    span: tuple[float, float] | None = None
