"""HTS-AT block by block.

Legend: S segments, N tokens, C channels.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from avpipe.stages.backbones import front_ends
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.backbones.htsat_model import TappedEncoder, embed
from avpipe.stages.backbones.htsat_weights import hash_needed, load_encoder
from avpipe.stages.backbones.stream import stream_types
from avpipe.stages.backbones.trunk import Trunk, key


class HtsatTrunk(Trunk):
    """Blocks `first` to `last` of an HTS-AT on single segments; the others are dropped.

    Args:
        choice: which model, with which weights.
        facts: what is known of it; its window is `segment`.
        first, last: names of blocks.
        device: where to.
    """

    def __init__(
        self, choice: BackboneChoice, facts: BackboneFacts, first: str, last: str, device: torch.device
    ) -> None:
        super().__init__(facts, first, last, device)
        encoder: Any = load_encoder(choice).eval()
        self.weights_sha256 = hash_needed(encoder)
        picture = torch.zeros(1, 1, *facts.input_size, device=device)
        self.stream = stream_types(facts, encoder, device, lambda: TappedEncoder(encoder, tuple(facts.taps))(picture))
        self.blocks = nn.ModuleDict({key(name): encoder.get_submodule(name) for name in self.names})
        begins = [(f"layers.{number}.blocks.0", encoder.layers[number - 1]) for number in range(1, len(encoder.layers))]
        self.merges = nn.ModuleDict({key(name): before.downsample for name, before in begins if name in self.names})
        encoder.layers, encoder.norm = nn.ModuleList(), nn.Identity()
        self.stem: Any = encoder if self.whole_start else None
        self.front = front_ends.build(facts) if self.whole_start else None
        self.eval().requires_grad_(False).to(device)
        self._first_halves = {name: _without_feed_forward(self.blocks[name]) for name in self.blocks}

    def _embed(self, pictures: Tensor) -> Tensor:
        return embed(self.stem, pictures)

    def _merge(self, name: str, x: Tensor) -> Tensor:
        if key(name) not in self.merges:
            return x
        merged: Tensor = self.merges[key(name)](x, self._grids[f"layers.{stage_index(name) - 1}.blocks.0"])
        return merged

    def _attention(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self._first_halves[key(name)](x, self._grids[name])[0]
        return out

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        block: Any = self.blocks[key(name)]
        out: Tensor = x + block.output(block.intermediate(block.layernorm_after(x)))
        return out

    def _whole(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.blocks[key(name)](x, self._grids[name])[0]
        return out


class _Nothing(nn.Module):
    """Adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _without_feed_forward(block: nn.Module) -> nn.Module:
    """A block that shares all parts with another but its feed-forward network, which it lacks.

    transformers' layer shifts, cuts and joins windows in the one call that runs it all; so the library still does that.
    """
    half = copy(block)
    others = {"layernorm_after": nn.Identity(), "intermediate": nn.Identity(), "output": _Nothing()}
    half._modules = {**block._modules, **others}
    return half
