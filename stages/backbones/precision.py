"""In which type a backbone computes, and whether it is compiled first. torch is imported when it is asked for.

Weights stay float32 and tokens come out as float32; `bfloat16` and `float16` are autocast: matrix products are computed
in that type, normalisation, softmax and the sums along the residual path in float32 where torch keeps them so. The
precision is part of the fingerprint. `docs/backbones.md` says how far the features move.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.errors import EnvironmentLacking, UsageError, unknown_name
from avpipe.stages.backbones.contract import BackboneChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

PRECISIONS = ("float32", "bfloat16", "float16")


def precision_of(choice: BackboneChoice) -> str:
    """The chosen precision.

    Raises:
        UsageError: there is none of that name.
    """
    if choice.precision not in PRECISIONS:
        raise unknown_name("precision", choice.precision, PRECISIONS)
    return choice.precision


def check_device(precision: str, device: torch.device) -> None:
    """Refuses float16 on a CPU: it is no faster there, and Swin-V2's padding comes out as NaN.

    torch's autocast for CPUs takes the norm of a vector in float16, where the least that it divides by is 0.

    Raises:
        UsageError: float16 is asked for on a CPU.
    """
    if precision == "float16" and device.type == "cpu":
        raise UsageError("--precision float16 is for GPUs; on a CPU give bfloat16 or float32")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What a forward pass runs in."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def compiled(module: nn.Module) -> Callable[..., Any]:
    """The module through `torch.compile`, for inputs of one shape: the first call compiles.

    Raises (at the first call):
        EnvironmentLacking: it cannot be compiled here; most often there is no C++ compiler.
    """
    import torch
    from torch._dynamo.exc import TorchDynamoException

    run: Callable[..., Any] = torch.compile(module, dynamic=False)

    def call(*inputs: torch.Tensor) -> Any:
        try:
            return run(*inputs)
        except TorchDynamoException as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise EnvironmentLacking(f"torch.compile fails here ({why}): leave out --compile") from error

    return call
