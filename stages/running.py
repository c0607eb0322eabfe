"""The epoch that is under way, as far as it got, and what the process has needed."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Running:
    """The epoch that is under way, as far as it got.

    Attributes:
        epoch: its number, from 1.
        step: steps done.
        loss: sum of the samples' losses so far.
        samples: samples so far.
        lr: learning rate of the last step.
        seconds: time that its steps took.
        waited: part of that in which they waited for data.
        order: hash of its samples in their order, see `order.digest`.
    """

    epoch: int
    step: int = 0
    loss: float = 0.0
    samples: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    order: str = ""


def peak_memory(device: torch.device) -> dict[str, float]:
    """Largest memory of this process so far, MiB: resident, and allocated on the GPU where one is used."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)}
    if device.type == "cuda":
        found["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return found
