"""One clock for both modalities: segments of equal length, a frame and a stretch of samples in each.

Second 0 is the start of the clip on the container's presentation clock, not the first packet and not frame 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Timeline:
    """How a clip is cut into segments.

    Attributes:
        segment_seconds: length of one segment, seconds.
        frame_position: where in a segment its frame is taken, 0 (start) to 1 (end).
        sample_rate: audio samples per second.
    """

    segment_seconds: float = 1.0
    frame_position: float = 0.5
    sample_rate: int = 16_000

    @property
    def samples_per_segment(self) -> int:
        """Audio samples in one segment."""
        return round(self.segment_seconds * self.sample_rate)

    def frame_time(self, segment: int) -> float:
        """Second at which the frame of `segment` (0-based) is taken."""
        return (segment + self.frame_position) * self.segment_seconds

    def fields(self) -> dict[str, Any]:
        """The fields that enter a fingerprint."""
        return asdict(self)
