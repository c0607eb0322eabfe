"""LAVISH's adapter: what a frozen sub-layer's tokens take over from the other modality, through a few latents.

Legend: S segments, N own tokens, C own channels, M tokens of the other modality, D its channels, k latents, b width of
the bottleneck, g groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 2
MOMENTUM = 0.1
"""Share of a step in the running statistics, as torch has it."""


class TokenBatchNorm(nn.Module):
    """Batch normalisation over all tokens of all segments; at evaluation with the running statistics of training.

    Not torch's module, because under checkpointing a block runs twice in a step, and only once may its statistics count
    (`uncounted`).

    Args:
        channels: C.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.momentum = MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        """Normalises `[S, N, C]`."""
        flat = x.reshape(-1, x.shape[-1])
        normal = functional.batch_norm(
            flat, self.mean, self.variance, self.weight, self.bias, self.training, self.momentum
        )
        return normal.view_as(x)


class GroupedLinear(nn.Module):
    """Linear map without mixing between groups of channels: a 1 x 1 convolution in groups.

    Args:
        into: channels that come in, a multiple of `groups`.
        out: channels that go out, a multiple of `groups`.
        groups: g.
    """

    def __init__(self, into: int, out: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, into // groups, out // groups))
        nn.init.uniform_(self.weight, -((groups / into) ** 0.5), (groups / into) ** 0.5)  # as torch's convolutions

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[S, N, into]` to `[S, N, out]`."""
        groups = x.reshape(*x.shape[:2], *self.weight.shape[:2])
        return torch.einsum("sngi,gio->sngo", groups, self.weight).flatten(2)


class Adapter(nn.Module):
    """What is added to the output of a frozen sub-layer with input X, where the other modality has tokens Y.

        L' = L + softmax(L Y^T) Y
        X' = X + gamma softmax(X L'^T) L'
        out = gate LN(BN(Up(ReLU(BN(Down(LN(X'))))))

    Published (code): the formula, without projections and scaling; two groups; gamma and gate are scalars that start at
    0, so a new adapter adds nothing; latents L `[k, C]` start uniform in [0, 1). Ours: where the widths differ, Y is
    mapped to C channels first. That map is applied to k rows instead of M, before and after the softmax, which comes to
    the same: a bias of the map is the same for all tokens, which the softmax of the scores cancels.

    Args:
        channels: C.
        other: D.
        latents: k.
        width: b.
    """

    def __init__(self, channels: int, other: int, *, latents: int, width: int) -> None:
        super().__init__()
        groups = math.gcd(GROUPS, channels, width)
        self.latents = nn.Parameter(torch.rand(latents, channels))
        self.meet = nn.Linear(other, channels) if other != channels else None
        self.gamma, self.gate = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.norm, self.norm_out = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.down, self.up = GroupedLinear(channels, width, groups), GroupedLinear(width, channels, groups)
        self.norm_down, self.norm_up = TokenBatchNorm(width), TokenBatchNorm(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What is added for `x` `[S, N, C]` beside `y` `[S, M, D]`, float32 `[S, N, C]`."""
        x, y = x.float(), y.float()
        met = self._latents_of(y)  # S k C
        mixed = torch.baddbmm(x, (x @ met.transpose(1, 2)).softmax(-1), self.gamma * met)
        narrow = functional.relu(self.norm_down(self.down(self.norm(mixed))))
        wide, out = self.norm_up(self.up(narrow)), self.norm_out
        # The gate is folded into the affine part of the normalisation, which saves a tensor of [S, N, C].
        return functional.layer_norm(wide, (wide.shape[-1],), self.gate * out.weight, self.gate * out.bias, out.eps)

    def _latents_of(self, y: Tensor) -> Tensor:
        """Latents that have met the tokens of the other modality, `[S, k, C]`."""
        asked = self.latents if self.meet is None else self.latents @ self.meet.weight
        found = (y @ asked.T).transpose(1, 2).softmax(-1) @ y  # S k D
        return self.latents + (found if self.meet is None else self.meet(found))


@contextmanager
def uncounted(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block the running statistics of all `TokenBatchNorm` in `modules` stay as they are."""
    norms = [one for module in modules for one in module.modules() if isinstance(one, TokenBatchNorm)]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm in norms:
            norm.momentum = MOMENTUM
