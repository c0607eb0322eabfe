"""The optimizer, its learning rate at every step, a step, and where its random numbers start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from avpipe.stages.config import TrainConfig

if TYPE_CHECKING:
    from avpipe.stages.features import FeatureBatch
    from avpipe.stages.tasks import Task


def make_optimizer(model: nn.Module, settings: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, not on gains, biases and gates.

    The fused form: with many small tensors the usual one is a sixth of a step on a CPU.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(settings: TrainConfig, step: int, steps: int) -> float:
    """Rate of a step (from 0): linear up to `lr` over the warm-up, then a cosine down to 0 after the last step."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    batch: FeatureBatch,
    *,
    rate: float,
    clip_norm: float,
) -> float:
    """One step of training.

    Args:
        model: in training mode.
        optimizer: of its parameters.
        task: gives the loss.
        batch: on the model's device.
        rate: learning rate.
        clip_norm: largest norm of the gradient.

    Returns:
        the loss before the step.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss = task.loss(model(batch), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return float(loss.detach())


def seed_everything(seed: int, epoch: int) -> None:
    """Sets torch's random numbers by (seed, epoch); epoch 0 is for the start weights."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1)))
