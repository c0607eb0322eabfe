"""The usual head of event localisation: a transformer over time, one linear layer.

Mettle's own head for AVE is not published; this one is our choice: both modalities side by side, a transformer
over time, one linear layer.

Legend: B batch, T segments, d common width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.distill import Distilled


def time_code(segments: int, width: int, device: torch.device) -> Tensor:
    """Sine and cosine of each segment's number at `width // 2` rates, `[T, d]`: positions for any length."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(1e4) / width))
    angles = torch.arange(segments, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]


class TemporalHead(nn.Module):
    """Scores of every class for every segment, with the other segments as context.

    Args:
        modalities: names of the modalities it sees, in the order in which they are joined.
        width: d.
        classes: number of classes, background included.
        heads: heads of the transformer; divides `width`.
        layers: its layers.
        dropout: its dropout rate.
    """

    def __init__(
        self, modalities: tuple[str, ...], width: int, classes: int, *, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = modalities
        self.join = nn.Linear(width * len(modalities), width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.over_time = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.classify = nn.Linear(width, classes)

    def forward(self, distilled: Mapping[str, Distilled], present: Tensor) -> Tensor:
        """Scores.

        Args:
            distilled: per modality, `vector` `[B, T, d]`.
            present: bool `[B, T]`, False where a shorter clip is padded.

        Returns:
            logits `[B, T, classes]`.
        """
        x = self.join(torch.cat([distilled[m].vector for m in self.modalities], dim=-1))
        x = x + time_code(x.shape[1], x.shape[2], x.device)
        scores: Tensor = self.classify(self.over_time(x, src_key_padding_mask=~present))
        return scores
