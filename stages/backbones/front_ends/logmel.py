"""Log-mel pictures of one segment, our own front end, in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avpipe.stages.backbones.front_ends.specs import LogMelSpec
from avpipe.stages.backbones.front_ends.triangles import triangles


class LogMel(nn.Module):
    """Mono samples to a standardised log-mel picture.

    Args:
        spec: its numbers.
        size: mel bands and frames to keep: (M, F).

    Shapes:
        int16 or float [B, S], full scale 32768, to float32 [B, 1, M, F]; low frequencies first.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: LogMelSpec, size: tuple[int, int]) -> None:
        super().__init__()
        self._spec, self._size = spec, size
        window = torch.zeros(spec.n_fft)
        window[: spec.window] = torch.hann_window(spec.window)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _filters(spec), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Computes the pictures."""
        spec = self._spec
        spectrum = torch.stft(
            samples.float() / 32768.0,
            spec.n_fft,
            spec.hop,
            window=self.window,
            center=False,
            return_complex=True,
        )
        mel = self.filters @ spectrum.abs().square()  # [B, M, F]
        mel = mel[:, : self._size[0], : self._size[1]].clamp(min=spec.floor).log()
        standard: Tensor = (mel - spec.mean) / spec.std
        return standard.unsqueeze(1)


def _filters(spec: LogMelSpec) -> Tensor:
    """Triangles of unit height, equally spaced on the HTK mel scale: float32 [M, n_fft // 2 + 1]."""
    bins = torch.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1)
    low, high = (_mel(torch.tensor(hertz)) for hertz in (spec.low_hz, spec.high_hz))
    edges = 700 * (10 ** (torch.linspace(float(low), float(high), spec.mels + 2) / 2595) - 1)
    return triangles(bins, edges)


def _mel(hertz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hertz / 700)
