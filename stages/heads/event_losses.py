"""Losses of the heads of event localisation, from labels of segments or of whole videos.

Legend: B batch, T segments, C classes of which background is the last, E = C - 1 events.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from avpipe.stages.heads.event_cmbs import TwoHead, best_mean

IGNORED = -100
"""Label of a segment that the loss leaves out."""


def event_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the segments, mean over those that count.

    Args:
        logits: `[B, T, C]`.
        labels: class ids `[B, T]`, int64; `IGNORED` where a segment does not count.

    Returns:
        a scalar; 0 (with gradients 0) where no segment counts.
    """
    total = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp_min(1)


def softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """LAVISH's loss (published): binary cross-entropy of the softmax against the one label, mean over all classes.

    Args:
        logits: `[B, T, C]`.
        labels: as `event_loss` takes them.

    Returns:
        a scalar; 0 where no segment counts.
    """
    counted = labels != IGNORED
    wanted = functional.one_hot(labels.masked_fill(~counted, 0), logits.shape[-1]).to(logits.dtype)
    each = functional.binary_cross_entropy(logits.softmax(-1), wanted, reduction="none").mean(-1)
    return _mean(each, counted)


def two_head_loss(output: TwoHead, labels: Tensor) -> Tensor:
    """The four losses of CMBS: relevance and gates by segment, category and activation by video.

    Published: binary cross-entropy for the first two, cross-entropy for the others, added up. Ours: the gates' product
    is a probability; a clip with several events asks for each by its share of the event segments; one without any asks
    for none, where the published code takes its class for the first.

    Args:
        output: what `CmbsHead` gives.
        labels: as `event_loss` takes them.

    Returns:
        a scalar; 0 where no segment counts.
    """
    background = output.category.shape[-1]
    counted = labels != IGNORED
    events = counted & (labels != background)
    relevance = functional.binary_cross_entropy_with_logits(output.relevance, events.float(), reduction="none")
    gate = functional.binary_cross_entropy(output.gate, events.float(), reduction="none")
    found = functional.one_hot(labels.masked_fill(~events, 0), background) * events[..., None]
    return _mean(relevance + gate, counted) + _category_loss(output, found.sum(1))


def weak_loss(logits: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy of a video's scores against its label, where each class is scored by its best segments.

    Published: one label a video, scores pooled over time and a softmax over them (AVEL takes the highest score over
    time, PSP the mean). Ours: the mean of the four highest, as CMBS pools, and plain cross-entropy.

    Args:
        logits: `[B, T, C]`.
        wanted: `[B, C]`, 1 for each class that the video is labelled with.
        counted: bool `[B, T]`: segments that count.

    Returns:
        a scalar, mean over the clips of which some segment counts.
    """
    chances = best_mean(logits, counted).log_softmax(-1)
    return _mean(-(_shares(wanted) * chances).sum(-1), counted.any(1))


def weak_two_head_loss(output: TwoHead, wanted: Tensor, counted: Tensor) -> Tensor:
    """`two_head_loss` from the label of the video: whether the four most relevant segments are events, and which.

    Ours; the published weak variant of CMBS multiplies gates and classes before it pools them.

    Args:
        output: what `CmbsHead` gives.
        wanted: `[B, C]`, 1 for each class that the video is labelled with.
        counted: bool `[B, T]`: segments that count.

    Returns:
        a scalar, mean over the clips of which some segment counts.
    """
    held, events = counted.any(1), 1 - wanted[:, -1]
    relevance = functional.binary_cross_entropy_with_logits(_best(output.relevance, counted), events, reduction="none")
    gate = functional.binary_cross_entropy(_best(output.gate, counted), events, reduction="none")
    return _mean(relevance + gate, held) + _category_loss(output, wanted[:, :-1] * held[:, None])


def _category_loss(output: TwoHead, found: Tensor) -> Tensor:
    """Cross-entropy of category and activation against shares of `found` `[B, E]`, over clips that have some."""
    shares = _shares(found)
    each = sum(-(shares * logits.log_softmax(-1)).sum(-1) for logits in (output.category, output.activation))
    return _mean(torch.as_tensor(each), found.sum(-1) > 0)


def _shares(found: Tensor) -> Tensor:
    """Rows `[B, columns]` that sum to 1; rows of zeros stay."""
    return found / found.sum(-1, keepdim=True).clamp_min(1)


def _best(scores: Tensor, counted: Tensor) -> Tensor:
    """`best_mean` of one column, `[B, T]` to `[B]`."""
    return best_mean(scores[..., None], counted)[:, 0]


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of those that count; 0 where none does."""
    return (values * counted).sum() / counted.sum().clamp_min(1)
