"""LAVISH's head for event localisation: each segment by itself, two linear layers.

Published (LAVISH's code): the vectors of both modalities side by side, a linear layer to 512, a linear layer to the
classes, nothing between them. Ours: the vectors are the distilled ones, and the inner width is twice the common one,
512 at its default.

Legend: B batch, T segments, d common width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.distill import Distilled


class LinearHead(nn.Module):
    """Scores of every class for every segment, from that segment alone.

    Args:
        modalities: names of the modalities it sees, in the order in which they are joined.
        width: d.
        classes: number of classes, background included.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, classes: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.join = nn.Linear(width * len(modalities), 2 * width)
        self.classify = nn.Linear(2 * width, classes)

    def forward(self, distilled: Mapping[str, Distilled], present: Tensor) -> Tensor:
        """Scores.

        Args:
            distilled: per modality, `vector` `[B, T, d]`.
            present: bool `[B, T]`; not needed here, since no segment sees another.

        Returns:
            logits `[B, T, classes]`.
        """
        scores: Tensor = self.classify(self.join(torch.cat([distilled[m].vector for m in self.modalities], dim=-1)))
        return scores
