"""Sound of containers and audio files by PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.media.container import open_media
from avpipe.pipeline.media.listeners.contract import TOLERANCE_SECONDS, Heard, canvas, scaled
from avpipe.pipeline.media.listeners.mp3_bytes import declares_length
from avpipe.pipeline.media.listeners.sound_signs import LostPackets, SoundSigns, check_loudness
from avpipe.pipeline.media.probe import AudioFacts, CannotVouch, MediaFacts, probe
from avpipe.pipeline.media.signs import libav_lines

# Containers round time stamps to milliseconds; a step beyond this is a real gap or overlap.
RESYNC_SECONDS = 0.005

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


def check_by_pyav(path: Path, window_seconds: float) -> None:
    """Looks for signs of damage in a file that another backend has read. It may be shorter than it declares.

    Raises:
        CannotVouch: there is a sign of damage within the window.
        InputRejected: (stage `probe`) not a media file.
    """
    damage = _hear(probe(path), window_seconds)[2]
    if damage:
        raise CannotVouch(f"PyAV: {damage}")


def _hear(facts: MediaFacts, window_seconds: float) -> tuple[Heard, int, str]:
    """Sound up to the end of the window or the first sign of damage, samples of the longest frame, and that sign."""
    import av

    if facts.audio is None:
        raise CannotVouch("no audio track")
    wave = present = np.zeros(0, dtype=np.float32)
    rate = block = cursor = 0
    damage, signs = "", SoundSigns(facts.audio.codec)
    try:
        for frame in _decoded(facts.path, facts.audio, signs):
            if not rate:
                rate = frame.sample_rate
                wave, present = canvas(window_seconds, rate)
            if frame.sample_rate != rate:
                raise CannotVouch(f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
            cursor, block = _position(frame, cursor, facts.origin_seconds), max(block, frame.samples)
            if cursor >= len(wave):
                break
            cursor = _paste(wave, present, cursor, _mono(frame, facts.audio.codec))
        signs.judge()
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
            sources = {container.format.name, stream.codec_context.name}
            lost = LostPackets(stream.index_entries) if container.format.name == "avi" else None
            for packet in container.demux(stream):
                if lost is not None:
                    lost.check(packet)
                yield from signs.decode(packet, lines, sources)
    except av.error.FFmpegError as error:
        raise CannotVouch(error.strerror or str(error)) from error


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


def _mono(frame: Any, codec: str) -> np.ndarray:
    """Mean of the channels, float32 [n], full scale 1.0."""
    samples = _samples(frame)
    check_loudness(samples, codec)
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
    where, rate = np.flatnonzero(heard.present), heard.sample_rate
    seconds = len(where) / rate
    declared_end = facts.audio.end_seconds if _declares_length(facts) else None
    if declared_end is None and len(where):
        end = (int(where[-1]) + 1) / rate
    else:
        end = (declared_end or 0.0) - facts.origin_seconds
    begin = max(0.0, facts.audio.start_seconds - facts.origin_seconds)
    declared = max(0.0, min(end, len(heard.present) / rate) - begin)
    short = seconds < declared - TOLERANCE_SECONDS - 2 * block / rate
    if short or damage:
        raise CannotVouch(f"PyAV decodes {seconds:.2f} s of {declared:.2f} s declared{damage and f': {damage}'}")


def _declares_length(facts: MediaFacts) -> bool:
    """False where the length is FFmpeg's guess from the size of the file."""
    return facts.container != "aac" and (facts.container != "mp3" or declares_length(facts.path))
