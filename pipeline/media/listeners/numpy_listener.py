"""Sound in NumPy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avpipe.pipeline.media.listeners.contract import Heard, canvas, scaled
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts

NUMPY_RATE = 32_000
"""Samples per second of sound in NumPy files, which do not say it."""


def listen_numpy(path: Path, facts: MediaFacts | None, window_seconds: float) -> Heard:
    """Reads the samples of one channel from a NumPy file, as repositories that work at 32 kHz make them.

    Args:
        path: a `.npy` file of real numbers, floats with 1.0 as full scale or integers with their own; any shape, in
            order of time. Its length decides nothing: the rate is 32 kHz.
        facts: not needed.
        window_seconds: how much of it is wanted.

    Raises:
        CannotVouch: not a NumPy file, damaged, or not of numbers; pickled objects are never read.
    """
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CannotVouch(f"numpy cannot read it ({error})") from error
    if not (isinstance(stored, np.ndarray) and stored.size and (stored.dtype.kind in "fi" or stored.dtype == np.uint8)):
        raise CannotVouch("not samples of sound in a NumPy file")
    wave, present = canvas(window_seconds, NUMPY_RATE)
    samples = scaled(np.asarray(stored.reshape(-1)[: len(wave)]))
    wave[: len(samples)] = np.nan_to_num(samples)
    present[: len(samples)] = True
    return Heard(wave, present, NUMPY_RATE, f"numpy {np.__version__}")
