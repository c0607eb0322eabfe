"""Samples as long as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avpipe.stages.backbones.windows import fill


class Fill(nn.Module):
    """Samples of a window, [B, W * S], repeated or followed by silence: [B, length]. See `windows.fill`."""

    def __init__(self, window: Mapping[str, Any]) -> None:
        super().__init__()
        self._window = dict(window)

    def forward(self, samples: Tensor) -> Tensor:
        """Fills the windows."""
        return fill(samples, self._window)
