"""Readers of ten seconds of sound: avpipe's and bare ones, as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import decord
import numpy as np
import numpy.typing as npt
import soundfile

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, decode_clip
from avpipe.pipeline.timeline import Timeline
from damage.clips import CLIPS, SECONDS
from damage.outcome import Read, Reading

WRONG = 0.01
ALONE = ("aac", "aac-adts", "aac-ts", "mp3", "mp3-untagged", "mp3-mkv", "opus", "opus-mkv", "flac", "wav")
LIBSNDFILE = ("mp3", "mp3-untagged", "opus", "flac", "wav")
KINDS = (*ALONE, "h264 sound", "mpeg4-avi sound", "vp9 sound")
"""Files of sound alone, and the sound of clips that have pictures too."""


def differ(wave: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> bool:
    """Whether the root mean square of the error is above 1 % of that of the sound clip; NaN is not counted."""
    error = np.nan_to_num(wave.astype(np.float64) - right.astype(np.float64))
    return bool(np.square(error).sum() > WRONG**2 * np.square(right.astype(np.float64)).sum())


def _reading(wave: npt.NDArray[np.generic], mask: Sequence[bool] = (True,) * SECONDS, sign: str = "") -> Reading:
    """A wave [n], which counts as a whole, and where the reader says that there is something."""
    kept = np.where(np.repeat(mask, len(wave) // SECONDS), wave, np.nan) if not all(mask) else wave
    return Reading([kept, *(np.zeros(1) if there else None for there in mask)], sign)


def by_avpipe(path: Path) -> Reading:
    """What goes into a cache, from the track of a video or from a file of sound."""
    track = any(path.suffix == kind.suffix for kind in CLIPS.values() if kind.video)
    clip = Clip("clip", SECONDS, video=path) if track else Clip("clip", SECONDS, audio=path)
    try:
        decoded = decode_clip(clip, MediaSpec(Timeline(), None, audio=True))
    except InputRejected as error:
        return Reading([], str(error))
    return of_clip(decoded.samples, decoded.masks["audio"])


def of_clip(samples: npt.NDArray[np.int16] | None, mask: npt.NDArray[np.bool_]) -> Reading:
    """The samples of a decoded clip."""
    assert samples is not None
    return _reading(samples.reshape(-1), mask.tolist())


def by_decord(path: Path) -> Reading:
    """All samples that decord gives, up to ten seconds."""
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.AudioReader(str(path), mono=True, sample_rate=16_000)
        return _reading(reader[:].asnumpy()[0][: SECONDS * 16_000])
    except Exception as error:
        return Reading([], f"raised {type(error).__name__}")


def by_pyav(path: Path) -> Reading:
    """All frames in turn, up to ten seconds; exceptions and `is_corrupt` are heeded."""
    av.logging.set_level(None)
    parts: list[npt.NDArray[np.generic]] = []
    sign, rate = "", 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                if frame.is_corrupt:
                    sign = "is_corrupt"
                rate = frame.sample_rate
                samples = frame.to_ndarray()  # [2, n], or [1, n * 2]
                parts.append((samples if frame.format.is_planar else samples.reshape(-1, 2).T).mean(0))
                if sum(map(len, parts)) >= SECONDS * rate:
                    break
    except Exception as error:
        sign = f"raised {type(error).__name__}"
    return _reading(np.concatenate(parts)[: SECONDS * rate], sign=sign) if parts else Reading([], sign or "no sound")


def by_soundfile(path: Path) -> Reading:
    """What libsndfile reads of a file of sound, up to ten seconds."""
    try:
        with soundfile.SoundFile(path) as file:
            return _reading(file.read(SECONDS * file.samplerate, always_2d=True).mean(1))
    except Exception as error:
        return Reading([], f"raised {type(error).__name__}")


def readers(kind: str) -> dict[str, Read]:
    """Who can read a kind of clip at all; libsndfile opens no mp4 and no Matroska."""
    found: dict[str, Read] = {"decord": by_decord, "PyAV": by_pyav}
    if kind in LIBSNDFILE:
        found["soundfile"] = by_soundfile
    return {**found, "avpipe": by_avpipe}
