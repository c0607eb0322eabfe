"""What a listener promises: sound at its own rate on the clip's clock, or a word on why it cannot vouch for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.media.probe import MediaFacts

TOLERANCE_SECONDS = 0.1
"""By how much sound may be shorter than its container declares."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a backend found in the first seconds of the clip.

    Attributes:
        wave: float32 [n], mono (mean of the channels), 1.0 is full scale, at `sample_rate`; 0 where nothing was there.
        present: bool [n], where real samples were.
        sample_rate: samples per second.
        backend: name and version.
    """

    wave: np.ndarray
    present: np.ndarray
    sample_rate: int
    backend: str


Listener = Callable[[Path, MediaFacts | None, float], Heard]


def canvas(seconds: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """An empty wave, float32 [n], and where it has samples, bool [n]: nowhere yet."""
    count = round(seconds * rate)
    return np.zeros(count, dtype=np.float32), np.zeros(count, dtype=bool)


def scaled(samples: np.ndarray) -> np.ndarray:
    """Samples with 1.0 as full scale."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    return samples
