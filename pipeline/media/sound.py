"""The sound of a clip: mono int16 at one rate, cut into its segments, with a mask that says where there was any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.files import check_file
from avpipe.pipeline.media.listeners import LISTENERS, Heard
from avpipe.pipeline.media.listeners.seals import broken_seal
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts
from avpipe.pipeline.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound on the clip's clock.

    Attributes:
        samples: int16 [T, samples_per_segment], mono; silence where the source has none.
        mask: bool [T]; False where less than half of the segment holds real samples.
        last: the last segment that holds any real sample; -1 where none does.
        backend: name and version of the decoder.
        note: why another backend was not believed, "" where the first one was.
    """

    samples: np.ndarray
    mask: np.ndarray
    last: int
    backend: str
    note: str = ""


def track_sound(facts: MediaFacts, timeline: Timeline, segments: int) -> Sound:
    """Sound from the audio track of a container, placed on the clock that its video runs on.

    Args:
        facts: of the container.
        timeline: the clip's clock.
        segments: T.

    Raises:
        InputRejected: (stage `audio`) no audio track, or less audio than the container declares.
    """
    if facts.audio is None:
        raise InputRejected(
            f"{facts.path}: no audio track",
            stage="audio",
            hint="give an audio file for the clip, leave it out of the annotations, take pictures alone (--modality "
            "visual), or let silence stand in (--missing-audio)",
        )
    return _first_believed(("pyav",), facts.path, facts, timeline, segments)


def file_sound(path: Path, timeline: Timeline, segments: int) -> Sound:
    """Sound from a file of its own; second 0 is its first sample.

    Args:
        path: wav, flac, ogg or mp3 through soundfile; anything else with an audio track through PyAV; `.npy` as samples
            at 32 kHz.
        timeline: the clip's clock.
        segments: T.

    Raises:
        InputRejected: (stage `audio` or `probe`) missing, not audio, damaged, or shorter than it declares.
    """
    path = check_file(path, "audio")
    listeners = ("numpy",) if path.suffix == ".npy" else ("soundfile", "pyav")
    return _first_believed(listeners, path, None, timeline, segments)


def _first_believed(
    names: tuple[str, ...], path: Path, facts: MediaFacts | None, timeline: Timeline, segments: int
) -> Sound:
    seconds = segments * timeline.segment_seconds
    complaints = [broken] if (broken := broken_seal(path, seconds)) else []
    for name in () if broken else names:
        try:
            heard = LISTENERS[name](path, facts, seconds)
        except CannotVouch as complaint:
            complaints.append(str(complaint))
            continue
        samples, share = _cut(heard, timeline, segments)
        last = int(np.flatnonzero(share)[-1]) if share.any() else -1
        return Sound(samples, share >= 0.5, last, heard.backend, "; ".join(complaints))
    raise InputRejected(f"{path}: {'; '.join(complaints)}", stage="audio", hint="damaged? fetch or encode it again")


def _cut(heard: Heard, timeline: Timeline, segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Resamples, rounds and cuts: int16 [T, S], and the share of each segment that holds real samples, float64 [T]."""
    wave = resample(heard.wave, heard.sample_rate, timeline.sample_rate)
    # A segment begins where its time says, though segments may not be a whole number of samples long.
    begins = np.rint(np.arange(segments) * (timeline.segment_seconds * timeline.sample_rate)).astype(np.int64)
    length = timeline.samples_per_segment
    padded = np.zeros(max(len(wave), begins[-1] + length), dtype=np.float32)
    padded[: len(wave)] = wave
    # Lossy codecs overshoot full scale: clip, or a loud +1.0 wraps to -1.0.
    samples = np.clip(np.rint(padded * 32768.0), -32768, 32767).astype(np.int16)
    share = [part.mean() if len(part) else 0.0 for part in np.array_split(heard.present, segments)]
    return samples[begins[:, None] + np.arange(length)], np.asarray(share)


def resample(wave: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Changes the rate of a wave by FFmpeg's resampler (windowed sinc), without moving it in time.

    Args:
        wave: float32 [n], mono.
        from_rate: samples per second of `wave`.
        to_rate: samples per second wanted.

    Returns:
        float32 [about n * to_rate / from_rate]; `wave` itself where the rates are equal.
    """
    import av

    if from_rate == to_rate or not len(wave):
        return wave
    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = from_rate, 0
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_rate)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts)
