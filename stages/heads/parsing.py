"""Video parsing: what is heard and what is seen, and when, learned from labels of whole videos.

Published (Tian, Li and Xu, ECCV 2020, and their code): the hybrid attention network (HAN) and attentive multimodal
multiple-instance pooling (MMIL). One layer, whose weights both modalities share, with one head, a feed-forward part as
wide as the vectors, ReLU, LayerNorm after each of its two parts and no code of time; three linear layers for
probabilities, weights over time and weights over modalities.

Our choice: it works on distilled vectors of width d, not on 512 channels of VGGish and ResNet features; segments that
are padding, or in which no modality has real content, get no weight in the pooling.

Legend: B batch, T segments, M modalities, C classes, d common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from avpipe.stages.distill import Distilled

EPSILON = 1e-7
"""Probabilities are kept so far from 0 and 1 in the loss (published)."""


@dataclass(frozen=True, slots=True)
class ParsingOutput:
    """What the head says of a batch, probabilities throughout.

    Attributes:
        segment: of every class in every segment of every modality, `[B, T, M, C]`.
        video: of every class somewhere in the clip, `[B, C]`. Weights over time sum to 1 within a modality and weights
            over modalities within a segment, so their products need not: as published, a sum may exceed 1, and is cut.
        modality: of every class somewhere in one modality, `[B, M, C]`.
    """

    segment: Tensor
    video: Tensor
    modality: Tensor


class HybridAttention(nn.Module):
    """Each segment looks at all segments of its own modality and of the other one.

    Args:
        width: d.
        dropout: dropout rate.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.own, self.other = (nn.MultiheadAttention(width, 1, dropout, batch_first=True) for _ in range(2))
        self.widen, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, other: Tensor | None, padded: Tensor) -> Tensor:
        """Attends.

        Args:
            x: `[B, T, d]` of one modality.
            other: the same of the other modality; None where there is none, and its part is left out.
            padded: bool `[B, T]`, segments that nothing looks at.

        Returns:
            `[B, T, d]`.
        """
        found = self.dropout(self.own(x, x, x, key_padding_mask=padded, need_weights=False)[0])
        if other is not None:
            found = found + self.dropout(self.other(x, other, other, key_padding_mask=padded, need_weights=False)[0])
        x = self.norm_attention(x + found)
        y: Tensor = self.norm_forward(x + self.dropout(self.narrow(self.dropout(functional.relu(self.widen(x))))))
        return y


class ParsingHead(nn.Module):
    """HAN and MMIL pooling.

    Args:
        modalities: names of the modalities it sees, one or two.
        width: d.
        classes: C.
        dropout: dropout rate.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.modalities = modalities
        self.attention = HybridAttention(width, dropout)
        self.classify = nn.Linear(width, classes)
        self.over_time, self.over_modalities = nn.Linear(width, classes), nn.Linear(width, classes)

    def forward(self, distilled: Mapping[str, Distilled], present: Tensor, valid: Tensor) -> ParsingOutput:
        """Probabilities.

        Args:
            distilled: per modality, `vector` `[B, T, d]`.
            present: bool `[B, T]`, False where a shorter clip is padded.
            valid: bool `[B, T]`, present segments in which some modality has real content. A clip without any is
                pooled over those that are present.
        """
        own = [distilled[m].vector for m in self.modalities]
        others = own[::-1] if len(own) == 2 else [None]
        x = torch.stack([self.attention(a, b, ~present) for a, b in zip(own, others, strict=True)], dim=2)  # B T M d
        segment = torch.sigmoid(self.classify(x))
        pooled = torch.where(valid.any(dim=1, keepdim=True), valid, present)[:, :, None, None]
        in_time = segment * torch.softmax(self.over_time(x).masked_fill(~pooled, -torch.inf), dim=1)
        video = (in_time * torch.softmax(self.over_modalities(x), dim=2)).sum(dim=(1, 2))
        return ParsingOutput(segment, video.clamp(max=1.0), in_time.sum(dim=1))


def parsing_loss(
    output: ParsingOutput,
    labels: Tensor,
    modalities: tuple[str, ...],
    smoothing: float,
    counted: Tensor,
    real: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of whole videos: of both modalities together, and of each by itself.

    Published: the label of a clip is taken for a label of each modality; as much of what is labelled is heard and not
    seen, visual labels are drawn towards one half.

    Args:
        output: of the head.
        labels: 1.0 for classes that occur somewhere in the clip, `[B, C]`.
        modalities: names of the modalities in `output`, in order.
        smoothing: s; visual labels y become (1 - s) y + s / 2 (published: 0.1).
        counted: bool `[B]`, clips that count.
        real: bool `[B, M]`, clips that count for a modality by itself, in the order of `modalities`; None: all of them.

    Returns:
        a scalar, the mean over clips that count; 0 (with gradients 0) where none does.
    """
    terms, shares = [_entropy(output.video, labels)], [counted]
    for place, modality in enumerate(modalities):
        share = smoothing if modality == "visual" else 0.0
        terms.append(_entropy(output.modality[:, place], labels * (1 - share) + 0.5 * share))
        shares.append(counted if real is None else counted & real[:, place])
    total = (torch.stack(terms) * torch.stack(shares)).sum(dim=0)
    return total.sum() / counted.sum().clamp_min(1)


def _entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Mean over classes, `[B]`."""
    safe = probability.float().clamp(EPSILON, 1 - EPSILON)
    return functional.binary_cross_entropy(safe, target, reduction="none").mean(dim=-1)
