"""Audio files: wav by its chunks, npy by its array, other formats by libsndfile or FFmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash

from avpipe.pipeline.datasets.check.broken import Broken

NPY_RATE = 32_000
"""Samples per second of released `.npy` sound, which does not say."""
_UNKNOWN_LENGTHS = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 8, 0x7FFFFFFF - 36)
"""Lengths in a wav that was written to a pipe."""
_FLOAT, _EXTENDED = 3, 0xFFFE
_FORMATS = (1, _FLOAT, 6, 7, _EXTENDED)
"""PCM, float, A-law, mu-law, and the extended form of them."""


def look(path: Path) -> dict[str, Any]:
    """Reads an audio file.

    Returns:
        `seconds`, `silent` (one value from start to end) and `hash`; no `silent` for compressed formats.

    Raises:
        Broken: `truncated`, `damaged`, `broken-header`, `empty-audio` or `not-finite`.
    """
    if path.suffix.lower() == ".npy":
        return _look_at_npy(path)
    data = path.read_bytes()
    try:
        facts = _wav(data) if data[:4] == b"RIFF" else _by_library(path)
    except _Coded:
        facts = _by_library(path)
    if facts["seconds"] <= 0:
        raise Broken("empty-audio", "there are no samples in it")
    return {**facts, "hash": xxhash.xxh3_128_hexdigest(data)}


def is_wav(path: Path) -> bool:
    """Whether a file is a wav by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WAVE"


class _Coded(Exception):
    """A wav whose sound is compressed: ADPCM, MP3."""


def _wav(data: bytes) -> dict[str, Any]:
    if data[8:12] != b"WAVE":
        raise Broken("broken-header", "a RIFF file, but no wav")
    at, layout = 12, b""
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if name == b"data":
            return _samples(layout, memoryview(data)[body:], length)
        if name == b"fmt ":
            layout = data[body : body + length]
        at = body + length + length % 2
    raise Broken("truncated", "cut short: the wav has no samples")


def _samples(layout: bytes, rest: memoryview, length: int) -> dict[str, Any]:
    if len(layout) < 16:
        raise Broken("broken-header", "the wav does not say its format")
    number = {name: int.from_bytes(layout[a:b], "little") for name, a, b in _FIELDS}
    if number["format"] not in _FORMATS and all(number.values()):
        raise _Coded
    if not all(number.values()):
        raise Broken("broken-header", f"no valid wav format: {', '.join(f'{k} {v}' for k, v in number.items())}")
    known = length not in _UNKNOWN_LENGTHS
    per_second = number["rate"] * number["block"]
    if known and length > len(rest):
        have, wanted = len(rest) / per_second, length / per_second
        raise Broken("truncated", f"cut short: {have:.2f} s of {wanted:.2f} s are there")
    samples = bytes(rest[:length] if known else rest)
    if number["format"] == _FLOAT or (number["format"] == _EXTENDED and layout[24:26] == bytes((_FLOAT, 0))):
        _check_finite(samples, 8 * number["block"] // number["channels"])
    frames = len(samples) // number["block"]
    silent = samples[: number["block"]] * frames == samples[: number["block"] * frames]
    return {"seconds": len(samples) / per_second, "silent": silent}


def _check_finite(samples: bytes, bits: int) -> None:
    import numpy as np

    if bits not in (32, 64):
        return
    whole = len(samples) // (bits // 8) * (bits // 8)
    finite = np.isfinite(np.frombuffer(samples[:whole], f"<f{bits // 8}"))
    if not finite.all():
        raise Broken("not-finite", _not_finite(int(finite.size - finite.sum()), finite.size))


def _not_finite(count: int, of: int) -> str:
    return f"{count} of {of} samples are no finite numbers (NaN or infinite)"


_FIELDS = (("format", 0, 2), ("channels", 2, 4), ("rate", 4, 8), ("block", 12, 14))


def _by_library(path: Path) -> dict[str, Any]:
    import soundfile

    from avpipe.pipeline.errors import InputRejected
    from avpipe.pipeline.media.probe import probe
    from avpipe.pipeline.media.signs import native_lines

    try:
        with native_lines():  # mpg123 prints what it thinks of a file
            return {"seconds": float(soundfile.info(str(path)).duration)}
    except (soundfile.SoundFileError, OSError):
        pass
    try:
        facts = probe(path)
    except InputRejected as rejected:
        raise Broken("broken-header", rejected.reason.split(": ", 1)[-1]) from rejected
    if facts.audio is None:
        raise Broken("no-audio", "no audio track in it")
    end = facts.audio.end_seconds if facts.audio.end_seconds is not None else facts.duration_seconds
    return {"seconds": 1e-3 if end is None else end - facts.origin_seconds}


def _look_at_npy(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        kind = "truncated" if "reshape" in str(error) or "EOF" in str(error) else "damaged"
        raise Broken(kind, f"numpy cannot read it ({' '.join(str(error).split())})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fi" or array.ndim not in (1, 2):
        raise Broken("broken-header", "no array of samples")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        raise Broken("not-finite", _not_finite(int(array.size - finite.sum()), array.size))
    if not array.size:
        raise Broken("empty-audio", "there are no samples in it")
    seconds = max(array.shape) / NPY_RATE
    return {
        "seconds": seconds,
        "silent": bool(array.min() == array.max()),
        "hash": xxhash.xxh3_128_hexdigest(array.tobytes()),
    }
