"""Audio at its own rate on the clip's clock: backends behind one small contract, found by name in `LISTENERS`.

decord's AudioReader is not among them, on purpose. It leaks, returns short audio without a sign, and in Matroska leaves
the codec's priming in, which puts sound 24 ms late while its length looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts, probe
from avpipe.pipeline.media.readers import load

TOLERANCE_SECONDS = 0.1
NUMPY_RATE = 32_000
"""Samples per second of sound in NumPy files, which do not say it."""
# Containers round time stamps to milliseconds; a step beyond this is a real gap or overlap.
RESYNC_SECONDS = 0.005


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


def listen_soundfile(path: Path, facts: MediaFacts | None, window_seconds: float) -> Heard:
    """Reads a wav, flac, ogg or mp3 file by libsndfile.

    Args:
        path: an audio file.
        facts: not needed.
        window_seconds: how much of it is wanted.

    Raises:
        CannotVouch: not a format of libsndfile, damaged, or shorter than its header says.
    """
    soundfile = load("soundfile", "pip install soundfile")
    try:
        with soundfile.SoundFile(path) as file:
            wanted = min(file.frames, round(window_seconds * file.samplerate))
            samples = file.read(wanted, dtype="float32", always_2d=True)
            declared, rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        # libsndfile says of a format it does not know that the file does not exist
        reason = "not its format" if str(error).startswith("Error opening") else str(error).removeprefix("Error : ")
        raise CannotVouch(f"soundfile cannot read it ({reason})") from error
    if len(samples) < wanted - TOLERANCE_SECONDS * rate:
        raise CannotVouch(f"soundfile decodes {len(samples) / rate:.2f} s of {declared / rate:.2f} s declared")
    wave, present = _canvas(window_seconds, rate)
    wave[: len(samples)] = samples.mean(axis=1)
    present[: len(samples)] = True
    return Heard(wave, present, rate, f"soundfile {soundfile.__version__}")


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
                wave, present = _canvas(window_seconds, rate)
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
    wave, present = _canvas(window_seconds, NUMPY_RATE)
    samples = _scaled(np.asarray(stored.reshape(-1)[: len(wave)]))
    wave[: len(samples)] = np.nan_to_num(samples)
    present[: len(samples)] = True
    return Heard(wave, present, NUMPY_RATE, f"numpy {np.__version__}")


LISTENERS: dict[str, Listener] = {"soundfile": listen_soundfile, "pyav": listen_pyav, "numpy": listen_numpy}


def _canvas(seconds: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    count = round(seconds * rate)
    return np.zeros(count, dtype=np.float32), np.zeros(count, dtype=bool)


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
    mono: np.ndarray = np.nan_to_num(_scaled(samples).mean(axis=0)).astype(np.float32)
    return mono


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Samples with 1.0 as full scale."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    return samples


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
