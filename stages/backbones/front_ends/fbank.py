"""Kaldi's filter banks in plain torch: what AST, AudioMAE and LAVISH see.

In batches and on the model's device; kaldi-native-fbank, the reference of the tests, takes one clip at a time on the
CPU. The papers' loaders first subtract the mean of the whole recording: without effect here, because every frame is
freed of its own mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avpipe.stages.backbones.front_ends.specs import FbankSpec
from avpipe.stages.backbones.front_ends.triangles import triangles

CLIPS_AT_ONCE = 8
"""Clips whose spectra are in memory at once: 10 s take about 15 MB each."""


class Fbank(nn.Module):
    """Mono samples to a standardised picture of log filter banks.

    Computed in float64: a quiet band beside a loud one would lose digits in float32.

    Shapes:
        int16 or float [B, S], full scale 32768, to float32 [B, channels, rows, columns], where M bands and F frames
        are rows and columns, or the other way round (`time_axis`).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: FbankSpec) -> None:
        super().__init__()
        self._spec = spec
        window = torch.hann_window(spec.window, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _filters(spec), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Computes the pictures."""
        spec = self._spec
        banks = torch.cat([self._banks(piece) for piece in torch.split(samples, CLIPS_AT_ONCE)])  # [B, F', M]
        standard = (banks[:, : spec.frames] - spec.mean) / (2 * spec.std)
        missing = spec.frames - standard.shape[1]
        level = -spec.mean / (2 * spec.std) if spec.padding == "raw" else 0.0
        picture = nn.functional.pad(standard, (0, 0, 0, missing), value=level).float()
        if spec.time_axis == "columns":
            picture = picture.transpose(1, 2)
        return picture.unsqueeze(1).expand(-1, spec.channels, -1, -1).contiguous()

    def _banks(self, samples: Tensor) -> Tensor:
        """Logarithms of filter banks, float64 [B, frames, M]."""
        spec = self._spec
        frames = (samples.double() / 32768.0).unfold(1, spec.window, spec.hop)  # [B, frames, window]
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft((frames - spec.preemphasis * before) * self.window, spec.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        banks: Tensor = (power @ self.filters.T).clamp(min=spec.floor).log()
        return banks


def _filters(spec: FbankSpec) -> Tensor:
    """Triangles over mel, equally spaced there: float64 [M, n_fft // 2 + 1].

    With as many bands as LAVISH has, some of the lowest lie between two bins of the transform: they are empty, and say
    the logarithm of the floor, in the source as here.
    """
    bins = torch.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1, dtype=torch.float64)
    low, high = (float(_mel(torch.tensor(hertz, dtype=torch.float64))) for hertz in (spec.low_hz, spec.high_hz))
    return triangles(_mel(bins), torch.linspace(low, high, spec.mels + 2, dtype=torch.float64))


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hertz / 700)
