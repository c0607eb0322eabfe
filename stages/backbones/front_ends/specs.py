"""Front ends by name: every number that turns samples into a model's picture. No torch here.

A spec's fields are `preprocess["front_end"]` of a backbone's facts, so all of them enter the fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from avpipe.pipeline.errors import unknown_name


@dataclass(frozen=True, slots=True)
class LogMelSpec:
    """Natural logarithm of a mel power spectrum, with fixed standardisation (our choice); frames without padding.

    Attributes:
        kind: name of the front end.
        sample_rate: samples per second.
        n_fft: points of the transform.
        window: samples of the Hann window (periodic).
        hop: samples from frame to frame.
        mels: bands.
        mel_scale: `htk`; triangles of unit height.
        low_hz, high_hz: where the lowest band begins and the highest ends.
        floor: least power, so that silence has a logarithm.
        mean, std: standardisation, `(x - mean) / std`.
        channels: of the picture.
    """

    kind: str = "logmel"
    sample_rate: int = 16_000
    n_fft: int = 512
    window: int = 400
    hop: int = 160
    mels: int = 128
    mel_scale: str = "htk"
    low_hz: float = 0.0
    high_hz: float = 8000.0
    floor: float = 1e-6
    mean: float = -6.0
    std: float = 4.0
    channels: int = 1


@dataclass(frozen=True, slots=True)
class DecibelSpec:
    """Mel power spectrum in decibels, as HTS-AT and CLAP take it; the model's batch norm does the rest.

    Frames are centred on multiples of the hop, the ends mirrored; a Hann window (periodic) as long as the transform.

    Attributes:
        kind, sample_rate, n_fft, hop, mels, low_hz, high_hz, floor, channels: as in `LogMelSpec`.
        mel_scale: `slaney` (with triangles of unit area, librosa's default) or `htk` (of unit height).
    """

    kind: str
    sample_rate: int
    hop: int
    mel_scale: str
    n_fft: int = 1024
    mels: int = 64
    low_hz: float = 50.0
    high_hz: float = 14_000.0
    floor: float = 1e-10
    channels: int = 1


@dataclass(frozen=True, slots=True)
class FbankSpec:
    """Kaldi's filter banks: frames that lie within the sound, each freed of its mean, pre-emphasised and windowed.

    Attributes:
        kind, sample_rate, n_fft, window, hop, mels, low_hz, high_hz, floor, channels: as in `LogMelSpec`; the window is
            Kaldi's `hanning` (symmetric), bands are triangles over mel (HTK's formula), equal channels are copies.
        frames: frames of the picture; more are cut, fewer are followed by padding.
        time_axis: `columns`: rows are bands, the lowest first; `rows`: columns are bands.
        preemphasis: share of the sample before that is subtracted.
        mean, std: standardisation, `(x - mean) / (2 * std)`.
        padding: `raw`: frames of 0 before standardisation, or `standard`: after it.
    """

    kind: str
    frames: int
    time_axis: str
    mean: float
    std: float
    padding: str
    sample_rate: int = 16_000
    n_fft: int = 512
    window: int = 400
    hop: int = 160
    mels: int = 128
    low_hz: float = 20.0
    high_hz: float = 8000.0
    preemphasis: float = 0.97
    floor: float = 2.0**-23
    channels: int = 1


Spec = LogMelSpec | DecibelSpec | FbankSpec

AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974
"""Of AudioSet's filter banks; published by AST, and used by AudioMAE too."""

SPECS: dict[str, Spec] = {
    "logmel": LogMelSpec(),
    "htsat": DecibelSpec("htsat", sample_rate=32_000, hop=320, mel_scale="slaney"),
    "clap": DecibelSpec("clap", sample_rate=48_000, hop=480, mel_scale="slaney"),
    "clap_fused": DecibelSpec("clap_fused", sample_rate=48_000, hop=480, mel_scale="htk"),
    "ast": FbankSpec("ast", 1024, "columns", AUDIOSET_MEAN, AUDIOSET_STD, padding="raw"),
    "audiomae": FbankSpec("audiomae", 1024, "rows", AUDIOSET_MEAN, AUDIOSET_STD, padding="raw"),
    "lavish": FbankSpec(
        "lavish",
        frames=192,
        time_axis="rows",
        mean=-4.984795570373535,
        std=3.7079780101776123,
        padding="standard",
        hop=83,
        mels=192,
        channels=3,
    ),
}
"""Every front end. `logmel` is ours; the others have the numbers that their sources publish:

- `htsat`: HTS-AT's configuration for AudioSet;
- `clap`, `clap_fused`: what the LAION checkpoints of each kind state (bands from 50 Hz, where transformers' class has
  0 Hz by default), with the filters that transformers gives each kind;
- `ast`, `audiomae`: the loaders of AST and AudioMAE, which differ in the axis of time alone;
- `lavish`: LAVISH's loader for Swin-V2 on AVE: a shift of 5.2 ms, so 83 samples, and as many bands as frames.
"""

NAMES = tuple(SPECS)


def spec(name: str, **changes: Any) -> dict[str, Any]:
    """The fields of a front end by name, some of them changed.

    Raises:
        UsageError: there is no such front end; the nearest name is offered.
    """
    if name not in SPECS:
        raise unknown_name("audio front end", name, NAMES, listing="front ends: " + ", ".join(NAMES))
    return asdict(SPECS[name]) | changes


def read(front_end: Mapping[str, Any]) -> Spec:
    """A spec from its fields, such as `preprocess["front_end"]` of a cache."""
    return type(SPECS[front_end["kind"]])(**front_end)
