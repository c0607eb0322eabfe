"""Heads of event localisation by name: what they take, what they give, and the loss of each.

- `temporal`: a class for every segment, with the other segments as context.
- `linear`: the same from each segment alone (LAVISH's).
- `cmbs`: whether a segment is an event, and one category for the video (the kind of CMBS, DG-SCT, AVMoE).

Legend: B batch, T segments, C classes of which background is the last, d common width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avpipe.stages.config import TrainConfig
from avpipe.stages.distill import Distilled
from avpipe.stages.heads import event_losses
from avpipe.stages.heads.event_cmbs import CmbsHead, TwoHead
from avpipe.stages.heads.event_linear import LinearHead
from avpipe.stages.heads.event_losses import IGNORED
from avpipe.stages.heads.event_temporal import TemporalHead

EventOutput = Tensor | TwoHead
"""Logits `[B, T, C]`, or what the two-head model gives."""


class Crossed(NamedTuple):
    """What the head gives in weakly supervised training.

    Attributes:
        own: for the clips.
        crossed: for the same pictures with the sound of the clip before in the batch, see `cross`.
    """

    own: EventOutput
    crossed: EventOutput


def build(modalities: tuple[str, ...], classes: int, config: TrainConfig) -> nn.Module:
    """The head that `config.head` names; called with what a distiller gives and `present`, it gives `EventOutput`.

    Args:
        modalities: names of the modalities it sees.
        classes: C.
        config: settings.
    """
    sizes = (modalities, config.width, classes)
    if config.head == "linear":
        return LinearHead(*sizes)
    heads, layers, dropout = config.heads, config.layers, config.dropout
    if config.head == "cmbs":
        return CmbsHead(*sizes, heads=heads, layers=layers, dropout=dropout, weak=config.supervision == "weak")
    return TemporalHead(*sizes, heads=heads, layers=layers, dropout=dropout)


def background_loss(output: EventOutput, counted: Tensor) -> Tensor:
    """Loss of a head where every segment that counts is background, on the scale of `video_loss`: cross-entropy.

    Args:
        output: what the head gives.
        counted: bool `[B, T]`: segments that count.
    """
    if isinstance(output, TwoHead):
        return event_losses.two_head_loss(output, torch.where(counted, output.category.shape[-1], IGNORED))
    return event_losses.event_loss(output, torch.where(counted, output.shape[-1] - 1, IGNORED))


def segment_loss(output: EventOutput, labels: Tensor, head: str) -> Tensor:
    """Loss of a head from labels of segments; see `event_losses`.

    Args:
        output: what the head gives.
        labels: class ids `[B, T]`, int64; `event_losses.IGNORED` where a segment does not count.
        head: its name.
    """
    if isinstance(output, TwoHead):
        return event_losses.two_head_loss(output, labels)
    loss = event_losses.softmax_loss if head == "linear" else event_losses.event_loss
    return loss(output, labels)


def video_loss(output: EventOutput, wanted: Tensor, counted: Tensor) -> Tensor:
    """Loss of a head from labels of videos; see `event_losses`.

    Args:
        output: what the head gives.
        wanted: float `[B, C]`, 1 for each class that the video is labelled with.
        counted: bool `[B, T]`: segments that count.
    """
    if isinstance(output, TwoHead):
        return event_losses.weak_two_head_loss(output, wanted, counted)
    return event_losses.weak_loss(output, wanted, counted)


def cross(distilled: Mapping[str, Distilled], present: Tensor) -> tuple[dict[str, Distilled], Tensor]:
    """The pictures of each clip with the sound of the clip before it in the batch (of the last, for the first).

    Args:
        distilled: what a distiller gives for `audio` and `visual`.
        present: bool `[B, T]`.

    Returns:
        the same with the sounds moved on by one clip, and the segments that both have.
    """
    sound = distilled["audio"]
    moved = Distilled(sound.vector.roll(1, 0), sound.top.roll(1, 0))
    return {**distilled, "audio": moved}, present & present.roll(1, 0)
