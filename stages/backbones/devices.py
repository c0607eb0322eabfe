"""Which device a backbone runs on. torch is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.errors import EnvironmentLacking

if TYPE_CHECKING:
    import numpy.typing as npt
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


def to_host(tokens: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Tensors as numpy arrays, by the same names; those on the CPU are not copied.

    A GPU copies all of them in one go, into pinned memory, and is waited for once.
    """
    import torch

    found, devices = {}, set()
    for name, each in tokens.items():
        if each.device.type == "cuda":
            devices.add(each.device)
            each = torch.empty(each.shape, dtype=each.dtype, pin_memory=True).copy_(each, non_blocking=True)
        found[name] = each
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    return {name: each.numpy() for name, each in found.items()}
