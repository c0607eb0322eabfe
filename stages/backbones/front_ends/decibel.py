"""Mel power spectra in decibels: what HTS-AT (torchlibrosa) and CLAP (transformers) see."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avpipe.stages.backbones.front_ends.specs import DecibelSpec
from avpipe.stages.backbones.front_ends.triangles import triangles

CLIPS_AT_ONCE = 4
"""Clips whose spectra are in memory at once: 10 s take about 20 MB each."""


class Decibel(nn.Module):
    """Mono samples to mel power in decibels, not standardised.

    Computed in float64: a quiet band beside a loud one would lose digits in float32.

    Shapes:
        int16 or float [B, S], full scale 32768, to float32 [B, 1, S // hop + 1, M], as ClapAudioModel's
        `input_features`; low frequencies first.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: DecibelSpec) -> None:
        super().__init__()
        self._spec = spec
        self.register_buffer("window", torch.hann_window(spec.n_fft, dtype=torch.float64), persistent=False)
        self.register_buffer("filters", _filters(spec), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Computes the pictures."""
        return torch.cat([self._pictures(piece) for piece in torch.split(samples, CLIPS_AT_ONCE)])

    def _pictures(self, samples: Tensor) -> Tensor:
        spec = self._spec
        spectrum = torch.stft(
            samples.double() / 32768.0,
            spec.n_fft,
            spec.hop,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )  # [B, bins, F]
        mel = self.filters @ (spectrum.real.square() + spectrum.imag.square())
        level = 10 * mel.clamp(min=spec.floor).log10()
        return level.transpose(1, 2).unsqueeze(1).float().contiguous()


def _filters(spec: DecibelSpec) -> Tensor:
    """Triangles over hertz, equally spaced over mel: float64 [M, n_fft // 2 + 1]."""
    bins = torch.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1, dtype=torch.float64)
    to_mel, to_hertz = (_slaney, _slaney_hertz) if spec.mel_scale == "slaney" else (_htk, _htk_hertz)
    edges = to_hertz(torch.linspace(to_mel(spec.low_hz), to_mel(spec.high_hz), spec.mels + 2, dtype=torch.float64))
    heights = 2 / (edges[2:] - edges[:-2]) if spec.mel_scale == "slaney" else torch.ones_like(edges[2:])
    return triangles(bins, edges) * heights[:, None]


def _htk(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _htk_hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


def _slaney(hertz: float) -> float:
    """Slaney's mel scale: linear up to 1 kHz, which is mel 15, then 27 steps for a factor of 6.4."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _slaney_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
