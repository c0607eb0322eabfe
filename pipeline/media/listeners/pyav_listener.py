"""Sound of containers and audio files by PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.listeners.contract import TOLERANCE_SECONDS, Heard, canvas, scaled
from avpipe.pipeline.media.listeners.mp3_bytes import declares_length
from avpipe.pipeline.media.listeners.placing import RESYNC_SECONDS, placed
from avpipe.pipeline.media.listeners.sound_signs import LostPackets, SoundSigns, check_numbers
from avpipe.pipeline.media.listeners.transport import loses_packets
from avpipe.pipeline.media.probe import AudioFacts, CannotVouch, MediaFacts, probe
from avpipe.pipeline.media.signs import libav_lines

_DTYPES = {"u8p": "u1", "s16p": "i2", "s32p": "i4", "s64p": "i8", "fltp": "f4", "dblp": "f8"}


def listen_pyav(path: Path, facts: MediaFacts | None, window_seconds: float) -> Heard:
    """Decodes the audio track of a container by PyAV (FFmpeg) and lays it out by its time stamps.

    Late audio leaves silence before it, gaps leave silence inside, and what lies before second 0 (priming) is cut off.

    Args:
        path: a media file.
        facts: of it; probed where they are None.
        window_seconds: how much is wanted from second 0 on.

    Raises:
        CannotVouch: there is a sign of damage within the window, or less audio than the container declares.
        InputRejected: (stage `probe`) not a media file.
    """
    facts = facts or probe(path)
    heard, block, damage = _hear(facts, window_seconds)
    _check_length(heard, facts, block, damage)
    return heard


def check_by_pyav(path: Path, window_seconds: float) -> float:
    """Looks for signs of damage in a file that another backend has read. It may be shorter than it declares.

    Returns:
        Second at which its sound ends, at most that of the window.

    Raises:
        CannotVouch: there is a sign of damage within the window.
        InputRejected: (stage `probe`) not a media file.
    """
    heard, _, damage = _hear(probe(path), window_seconds)
    if damage:
        raise CannotVouch(f"PyAV: {damage}")
    return _end(heard)


def _hear(facts: MediaFacts, window_seconds: float) -> tuple[Heard, int, str]:
    """Sound up to the end of the window or the first sign of damage, samples of the longest frame, and that sign."""
    import av

    if facts.audio is None:
        raise CannotVouch("no audio track")
    wave = present = np.zeros(0, dtype=np.float32)
    rate = block = 0
    damage, signs = "", SoundSigns(facts.audio.codec)
    try:
        for start, frame in placed(_decoded(facts.path, facts.audio, signs), facts.origin_seconds):
            if not rate:
                rate = frame.sample_rate
                wave, present = canvas(window_seconds, rate)
            if frame.sample_rate != rate:
                raise CannotVouch(f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
            if start >= len(wave):
                break
            _paste(wave, present, start, _mono(frame, facts.audio.codec))
            block = max(block, frame.samples)
        signs.judge()
        hole = _first_hole(present, rate) if facts.container == "mpegts" else None
        if hole is not None and loses_packets(facts.path, facts.audio.index):
            raise CannotVouch(f"packets of the transport stream are lost, and nothing is there at {hole:.2f} s")
    except CannotVouch as sign:
        damage = str(sign)
    if not rate:
        raise CannotVouch(f"PyAV decodes no audio{damage and f': {damage}'}")
    return Heard(wave, present, rate, f"pyav {av.__version__}"), block, damage


def _decoded(path: Path, audio: AudioFacts, signs: SoundSigns) -> Iterator[Any]:
    """Frames of the audio track, up to the first sign of damage, which is raised as CannotVouch."""
    import av

    try:
        with libav_lines(signs.log_level) as lines, open_media(path) as container:
            stream = container.streams[audio.index]
            stream.codec_context.thread_count = 1  # processes run side by side already
            stream.codec_context.options = {"err_detect": "crccheck"}
            lost = LostPackets(stream.index_entries) if container.format.name == "avi" else None
            signs.listen(lines, {container.format.name, stream.codec_context.name})
            for packet in container.demux(stream):
                if lost is not None:
                    lost.check(packet)
                yield from signs.decode(packet)
    except av.error.FFmpegError as error:
        raise CannotVouch(error.strerror or str(error)) from error


def _paste(wave: np.ndarray, present: np.ndarray, start: int, mono: np.ndarray) -> None:
    begin, end = max(start, 0), min(start + len(mono), len(wave))
    if begin < end:
        wave[begin:end] = mono[begin - start : end - start]
        present[begin:end] = True


def _mono(frame: Any, codec: str) -> np.ndarray:
    """Mean of the channels, float32 [n], full scale 1.0."""
    samples = _samples(frame)
    check_numbers(samples, codec)
    mono: np.ndarray = scaled(samples).mean(axis=0).astype(np.float32, copy=False)
    return np.nan_to_num(mono) if codec.startswith("pcm") else mono


def _samples(frame: Any) -> np.ndarray:
    """What a frame holds [C, n], as stored."""
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        interleaved: np.ndarray = frame.to_ndarray()  # [1, n * C]
        return interleaved.reshape(-1, channels).T
    # Not by `to_ndarray`: for 8 planes PyAV finds a 9th, which is no memory of the frame.
    dtype = _DTYPES[frame.format.name]
    stored = np.empty((channels, frame.samples), dtype)
    for channel, plane in zip(stored, frame.planes[:channels], strict=True):
        channel[:] = np.frombuffer(plane, dtype, frame.samples)
    return stored


def _check_length(heard: Heard, facts: MediaFacts, block: int, damage: str) -> None:
    """Compares the real samples in the window with what the container declares, give or take the codec's padding."""
    assert facts.audio is not None
    rate = heard.sample_rate
    seconds = np.count_nonzero(heard.present) / rate
    declared_end = facts.audio.end_seconds if _declares_length(facts) else None
    end = _end(heard) if declared_end is None else declared_end - facts.origin_seconds
    begin = max(0.0, facts.audio.start_seconds - facts.origin_seconds)
    declared = max(0.0, min(end, len(heard.present) / rate) - begin)
    short = seconds < declared - TOLERANCE_SECONDS - 2 * block / rate
    if short or damage:
        raise CannotVouch(f"PyAV decodes {seconds:.2f} s of {declared:.2f} s declared{damage and f': {damage}'}")


def _first_hole(present: np.ndarray, rate: int) -> float | None:
    """Second at which sound stops to go on later; None where it does not."""
    where = np.flatnonzero(present)
    holes = np.flatnonzero(np.diff(where) > RESYNC_SECONDS * rate)
    return (int(where[holes[0]]) + 1) / rate if len(holes) else None


def _end(heard: Heard) -> float:
    """Second at which the last real sample ends; 0 where there is none."""
    where = np.flatnonzero(heard.present)
    return (int(where[-1]) + 1) / heard.sample_rate if len(where) else 0.0


def _declares_length(facts: MediaFacts) -> bool:
    """False where the length is FFmpeg's guess from the size of the file."""
    return facts.container != "aac" and (facts.container != "mp3" or declares_length(facts.path))
