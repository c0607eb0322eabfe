"""A head of the kind of CMBS for event localisation: is there an event in the segment, and which is it in the video.

Published (CMBS, which DG-SCT and AVMoE take over): each modality is encoded over time and attends to the other, whose
gate (a sigmoid of its encoding) strengthens it by a tenth; the classes that each modality finds by itself in its four
best segments, averaged over both, are the "activation"; then the modalities are multiplied, attend to each other, and
their mean over both gives a logit of relevance for every segment and, by its maximum over time, one logit for every
class, to which 0.3 of the activation is added. Four losses, see `event_losses.two_head_loss`.

Ours: distilled vectors with a code of time in the place of pooled backbone features and a bidirectional LSTM, as many
encoder layers as `layers` says (published: two), one common width, and the product of the gates is a probability where
the published loss takes it for a logit. With one modality alone that one stands in the place of the other too.

Ours too: under weak supervision the relevance of a segment has the segment's strongest activation added to it. Without
it crossed pairs (see `tasks.events`) cannot teach what is relevant: a relevance that knows no classes learned from them
where in a clip events usually are, and nothing about what is seen and heard. The published weak variant differs: its
relevance is the mean of the gates, it has background among its classes, and it pools the product of both.

Legend: B batch, T segments, d common width, E classes without background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avpipe.stages.distill import Distilled
from avpipe.stages.heads.event_temporal import time_code

GATE_WEIGHT, ACTIVATION_WEIGHT = 0.1, 0.3
"""Published: how much the other modality's gate adds, and how much of the activation is added to the classes."""
BEST_SEGMENTS = 4
"""Published: segments over which an activation is averaged."""


class TwoHead(NamedTuple):
    """What the head gives.

    Attributes:
        relevance: logit of "this segment is an event", `[B, T]`.
        gate: the product of the modalities' gates, a probability, `[B, T]`.
        category: logits of the video's event, `[B, E]`.
        activation: logits of the same from each modality by itself, mean over both, `[B, E]`.
    """

    relevance: Tensor
    gate: Tensor
    category: Tensor
    activation: Tensor


class _Attend(nn.Module):
    """Attention from one sequence to another with its residual, each sum normalised; a feed-forward layer or none."""

    def __init__(self, width: int, heads: int, dropout: float, inner: int = 0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropout)
        self.feed: nn.Module | None = None
        if inner:
            self.feed = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, width))
            self.feed_norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """`query` `[B, T, d]` with what it finds in `memory` `[B, M, d]`; `hidden` `[B, M]` marks padding there."""
        found, _ = self.attention(query, memory, memory, key_padding_mask=hidden, need_weights=False)
        x: Tensor = self.norm(query + self.drop(found))
        return x if self.feed is None else self.feed_norm(x + self.drop(self.feed(x)))


class CmbsHead(nn.Module):
    """Relevance of every segment, and one category for the video.

    Args:
        modalities: names of the modalities it sees, one or two.
        width: d.
        classes: number of classes, background included.
        heads: heads of every attention; divides `width`.
        layers: encoder layers of each modality.
        dropout: dropout rate.
        weak: the relevance of a segment has its strongest activation added.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        width: int,
        classes: int,
        *,
        heads: int,
        layers: int,
        dropout: float,
        weak: bool = False,
    ) -> None:
        super().__init__()
        self.modalities, self.weak = modalities, weak
        self.encode = nn.ModuleDict({m: _encoder(width, heads, layers, dropout) for m in modalities})
        self.cross = nn.ModuleDict({m: _Attend(width, heads, dropout, 4 * width) for m in modalities})
        self.gate = nn.ModuleDict({m: nn.Linear(width, 1) for m in modalities})
        self.activate = nn.ModuleDict({m: nn.Linear(width, classes - 1) for m in modalities})
        self.interact = nn.ModuleDict({m: _Attend(width, heads, dropout) for m in modalities})
        self.relevance = nn.Linear(width, 1)
        self.category = nn.Linear(width, classes - 1)

    def forward(self, distilled: Mapping[str, Distilled], present: Tensor) -> TwoHead:
        """Relevance and category.

        Args:
            distilled: per modality, `vector` `[B, T, d]`.
            present: bool `[B, T]`, False where a shorter clip is padded.
        """
        names, hidden = self.modalities, ~present
        other = dict(zip(names, reversed(names), strict=True))
        code = time_code(present.shape[1], distilled[names[0]].vector.shape[2], present.device)
        x = {m: distilled[m].vector + code for m in names}
        encoded = {m: self.encode[m](x[m], src_key_padding_mask=hidden) for m in names}
        gates = {m: torch.sigmoid(self.gate[m](encoded[m])) for m in names}  # B T 1
        both = torch.cat([hidden, hidden], dim=1)
        for m in names:
            x[m] = self.cross[m](x[m], torch.cat([encoded[other[m]], x[m]], dim=1), both)
        for m in names:
            x[m] = x[m] * (1 + GATE_WEIGHT * gates[other[m]])
        active = {m: self.activate[m](x[m]) for m in names}  # B T E
        activation = torch.stack([best_mean(scores, present) for scores in active.values()]).mean(0)
        for m in names:  # published: the second sees what the first has become
            pair = x[m] * x[other[m]]
            x[m] = self.interact[m](pair, torch.cat([x[other[m]], x[m]], dim=1), both)
        fused = torch.stack(list(x.values())).mean(0)
        strongest = fused.masked_fill(hidden[..., None], float("-inf")).amax(1)
        relevance = self.relevance(fused)[..., 0]
        if self.weak:
            relevance = relevance + torch.stack(list(active.values())).mean(0).amax(-1)
        return TwoHead(
            relevance=relevance,
            gate=torch.stack(list(gates.values())).prod(0)[..., 0],
            category=self.category(strongest) + ACTIVATION_WEIGHT * activation,
            activation=activation,
        )


def best_mean(scores: Tensor, counted: Tensor, best: int = BEST_SEGMENTS) -> Tensor:
    """Mean of each column's `best` highest values over time, of all where there are fewer.

    Args:
        scores: `[B, T, columns]`.
        counted: bool `[B, T]`: the segments that count.
        best: how many.

    Returns:
        `[B, columns]`; 0 where no segment counts.
    """
    held = scores.masked_fill(~counted[..., None], float("-inf"))
    highest = held.topk(min(best, scores.shape[1]), dim=1).values
    real = highest > float("-inf")
    return highest.masked_fill(~real, 0).sum(1) / real.sum(1).clamp_min(1)


def _encoder(width: int, heads: int, layers: int, dropout: float) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
