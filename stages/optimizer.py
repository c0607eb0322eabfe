"""The optimizer, its learning rate at every step, and where its random numbers start."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from avpipe.stages.config import TrainConfig


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


def seed_everything(seed: int, epoch: int) -> None:
    """Sets torch's random numbers by (seed, epoch); epoch 0 is for the start weights."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> np.uint64(1)))
