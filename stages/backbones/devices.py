"""Which device a backbone runs on. torch is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe.pipeline.errors import EnvironmentLacking

if TYPE_CHECKING:
    import torch


def torch_device(name: str) -> torch.device:
    """The device by name; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        EnvironmentLacking: there is no such GPU here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentLacking(
            f"device {name!r}: torch finds {torch.cuda.device_count()} GPUs here; give --device cpu"
        )
    return device


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU by number and name."""
    import torch

    return "cpu" if device.type == "cpu" else f"{device} {torch.cuda.get_device_name(device)}"
