"""Sound of containers and audio files by PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.listeners.contract import TOLERANCE_SECONDS, Heard, canvas, scaled
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, probe

# Containers round time stamps to milliseconds; a step beyond this is a real gap or overlap.
RESYNC_SECONDS = 0.005


def listen_pyav(path: Path, facts: MediaFacts | None, window_seconds: float) -> Heard:
    """Decodes the audio track of a container by PyAV (FFmpeg) and lays it out by its time stamps.

    Late audio leaves silence before it, gaps leave silence inside, and what lies before second 0 (priming) is cut off.

    Args:
        path: a media file.
        facts: of it; probed where they are None.
        window_seconds: how much is wanted from second 0 on.

    Raises:
        CannotVouch: decoding failed, or gave less audio than the container declares within the window.
        InputRejected: (stage `probe`) not a media file.
    """
    import av

    facts = facts or probe(path)
    if facts.audio is None:
        raise CannotVouch("no audio track")
    wave = present = np.zeros(0, dtype=np.float32)
    rate = block = cursor = 0
    failure = ""
    try:
        for frame in _decoded(facts):
            if not rate:
                rate = frame.sample_rate
                wave, present = canvas(window_seconds, rate)
            if frame.sample_rate != rate:
                raise CannotVouch(f"PyAV: the sample rate changes from {rate} to {frame.sample_rate} Hz")
            cursor, block = _position(frame, cursor, facts.origin_seconds), max(block, frame.samples)
            if cursor >= len(wave):
                break
            cursor = _paste(wave, present, cursor, _mono(frame))
    except av.error.FFmpegError as error:
        failure = f": {error.strerror or error}"
    if not rate:
        raise CannotVouch(f"PyAV decodes no audio{failure}")
    _check_length(present, rate, facts, block / rate, failure)
    return Heard(wave, present, rate, f"pyav {av.__version__}")


def _decoded(facts: MediaFacts) -> Iterator[Any]:
    assert facts.audio is not None
    with open_media(facts.path) as container:
        stream = container.streams[facts.audio.index]
        stream.codec_context.thread_count = 1  # processes run side by side already
        yield from container.decode(stream)


def _position(frame: Any, cursor: int, origin_seconds: float) -> int:
    """Sample number at which the frame starts: its time stamp, or right after the one before where they agree."""
    if frame.pts is None:
        return cursor
    stamped = round((float(frame.pts * frame.time_base) - origin_seconds) * frame.sample_rate)
    return stamped if abs(stamped - cursor) > RESYNC_SECONDS * frame.sample_rate else cursor


def _paste(wave: np.ndarray, present: np.ndarray, cursor: int, mono: np.ndarray) -> int:
    begin, end = max(cursor, 0), min(cursor + len(mono), len(wave))
    if begin < end:
        wave[begin:end] = mono[begin - cursor : end - cursor]
        present[begin:end] = True
    return cursor + len(mono)


def _mono(frame: Any) -> np.ndarray:
    """Mean of the channels, float32 [n], full scale 1.0."""
    samples = frame.to_ndarray()  # [C, n], or [1, n * C] with the channels in turn
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mono: np.ndarray = np.nan_to_num(scaled(samples).mean(axis=0)).astype(np.float32)
    return mono


def _check_length(present: np.ndarray, rate: int, facts: MediaFacts, block_seconds: float, failure: str) -> None:
    """Compares the real samples in the window with what the container declares, give or take the codec's padding."""
    assert facts.audio is not None
    heard = np.flatnonzero(present)
    seconds = len(heard) / rate
    declared_end = facts.audio.end_seconds
    if declared_end is None and len(heard):
        end = (int(heard[-1]) + 1) / rate
    else:
        end = (declared_end or 0.0) - facts.origin_seconds
    begin = max(0.0, facts.audio.start_seconds - facts.origin_seconds)
    declared = max(0.0, min(end, len(present) / rate) - begin)
    short = seconds < declared - TOLERANCE_SECONDS - 2 * block_seconds
    if short or (failure and declared_end is None):
        raise CannotVouch(f"PyAV decodes {seconds:.2f} s of {declared:.2f} s declared{failure}")
