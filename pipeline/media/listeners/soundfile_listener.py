"""Sound of audio files by libsndfile."""

from __future__ import annotations

from pathlib import Path

from avpipe.pipeline.media.listeners.contract import TOLERANCE_SECONDS, Heard, canvas
from avpipe.pipeline.media.listeners.mp3_bytes import Music, music_of
from avpipe.pipeline.media.listeners.pyav_listener import check_by_pyav
from avpipe.pipeline.media.probe import CannotVouch, MediaFacts
from avpipe.pipeline.media.readers import load
from avpipe.pipeline.media.signs import native_lines


def listen_soundfile(path: Path, facts: MediaFacts | None, window_seconds: float) -> Heard:
    """Reads a wav, flac, ogg or mp3 file by libsndfile.

    Args:
        path: an audio file.
        facts: not needed.
        window_seconds: how much of it is wanted.

    Raises:
        CannotVouch: not a format of libsndfile, damaged, or shorter than its header says; an MP3 file that carries no
            checksum is heard by PyAV too, since libsndfile conceals damage in MP3 and guesses how long it is.
    """
    soundfile = load("soundfile", "pip install soundfile")
    try:
        with native_lines(), soundfile.SoundFile(path) as file:  # its MP3 decoder prints
            wanted = min(file.frames, round(window_seconds * file.samplerate))
            samples = file.read(wanted, dtype="float32", always_2d=True)
            declared, rate, kind = file.frames, file.samplerate, file.format
    except (soundfile.SoundFileError, OSError, UnicodeError) as error:  # it takes no name that is not UTF-8
        # libsndfile says of a format it does not know that the file does not exist
        reason = "not its format" if str(error).startswith("Error opening") else str(error).removeprefix("Error : ")
        raise CannotVouch(f"soundfile cannot read it ({reason})") from error
    if len(samples) < wanted - TOLERANCE_SECONDS * rate:
        raise CannotVouch(f"soundfile decodes {len(samples) / rate:.2f} s of {declared / rate:.2f} s declared")
    wave, present = canvas(window_seconds, rate)
    wave[: len(samples)] = samples.mean(axis=1)
    present[: len(samples)] = True
    if kind == "MP3" and music_of(path) is not Music.SOUND:
        ends = check_by_pyav(path, window_seconds)
        if len(samples) < (ends - TOLERANCE_SECONDS) * rate:  # it takes the rate of the first frame for that of all
            raise CannotVouch(f"soundfile gives {len(samples) / rate:.2f} s of {ends:.2f} s that there are")
    return Heard(wave, present, rate, f"soundfile {soundfile.__version__}")
