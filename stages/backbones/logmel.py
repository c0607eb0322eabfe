"""Log-mel spectrograms in plain torch, with the parameters that a backbone's facts state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LogMel(nn.Module):
    """Mono samples to a standardised log-mel picture.

    Args:
        front_end: `preprocess["front_end"]` of the backbone's facts.
        size: mel bands and frames to keep: (M, F).

    Shapes:
        int16 or float [B, S], full scale 32768, to float32 [B, 1, M, F]; low frequencies first.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, front_end: dict[str, Any], size: tuple[int, int]) -> None:
        super().__init__()
        self._options, self._size = front_end, size
        window = torch.zeros(front_end["n_fft"])
        window[: front_end["window"]] = torch.hann_window(front_end["window"])
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(front_end), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Computes the pictures."""
        options = self._options
        spectrum = torch.stft(
            samples.float() / 32768.0,
            options["n_fft"],
            options["hop"],
            window=self.window,
            center=False,
            return_complex=True,
        )
        mel = self.filters @ spectrum.abs().square()  # [B, M, F]
        mel = mel[:, : self._size[0], : self._size[1]].clamp(min=options["floor"]).log()
        standard: Tensor = (mel - options["mean"]) / options["std"]
        return standard.unsqueeze(1)


def mel_filters(front_end: dict[str, Any]) -> Tensor:
    """Triangular filters of unit height, equally spaced on the HTK mel scale: float32 [M, n_fft // 2 + 1]."""
    bins = torch.linspace(0, front_end["sample_rate"] / 2, front_end["n_fft"] // 2 + 1)
    low, high = (_mel(torch.tensor(front_end[key])) for key in ("low_hz", "high_hz"))
    edges = 700 * (10 ** (torch.linspace(float(low), float(high), front_end["mels"] + 2) / 2595) - 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def _mel(hertz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hertz / 700)
