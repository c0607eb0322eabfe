"""timm models block by block.

Legend: S segments, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avpipe.stages.backbones import timm_halves
from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.backbones.stream import stream_types
from avpipe.stages.backbones.timm_model import make_front_end
from avpipe.stages.backbones.timm_table import Entry
from avpipe.stages.backbones.timm_weights import build, hash_tensors
from avpipe.stages.backbones.trunk import Trunk, key


class TimmTrunk(Trunk):
    """Blocks `first` to `last` of a timm model; the others are dropped.

    Args:
        choice: which model, with which weights.
        facts: what is known of it.
        entry: its line of the table.
        first, last: names of blocks.
        device: where to.
    """

    def __init__(
        self,
        choice: BackboneChoice,
        facts: BackboneFacts,
        entry: Entry,
        first: str,
        last: str,
        device: torch.device,
    ) -> None:
        super().__init__(facts, first, last, device)
        model: Any = build(choice, facts, entry).eval()  # in training, some models draw rotary positions at random
        self.weights_sha256 = hash_tensors(model.state_dict())
        picture = torch.zeros(1, model.patch_embed.proj.in_channels, *facts.input_size, device=device)
        self.stream = stream_types(facts, model, device, lambda: model(picture))
        self.blocks = nn.ModuleDict({key(name): model.get_submodule(name) for name in self.names})
        self.merges = nn.ModuleDict(_merges(model, self.names))
        for name, rotary in _rotary(model, facts, self.names).items():
            self.register_buffer(f"rotary_{key(name)}", rotary, persistent=False)
        self.stem: Any = _stem(model) if self.whole_start else None
        self.front = make_front_end(facts) if self.whole_start else None
        self.eval().requires_grad_(False).to(device)

    def _embed(self, pictures: Tensor) -> Tensor:
        tokens: Tensor = self.stem.forward_features(pictures)
        return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens

    def _merge(self, name: str, x: Tensor) -> Tensor:
        if key(name) not in self.merges:
            return x
        before = self._grids[f"layers.{stage_index(name) - 1}.blocks.0"]
        merged: Tensor = self.merges[key(name)](x.view(len(x), *before, -1))
        return merged.flatten(1, 2)

    def _attention(self, name: str, x: Tensor) -> Tensor:
        return timm_halves.attention(self.blocks[key(name)], x, self._grids[name], self._rotary(name))

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        return timm_halves.feed_forward(self.blocks[key(name)], x)

    def _whole(self, name: str, x: Tensor) -> Tensor:
        block = self.blocks[key(name)]
        if name.startswith("layers."):
            on_grid: Tensor = block(x.view(len(x), *self._grids[name], -1))
            return on_grid.flatten(1, 2)
        rotary = self._rotary(name)
        out: Tensor = block(x) if rotary is None else block(x, rope=rotary)
        return out

    def _rotary(self, name: str) -> Tensor | None:
        return getattr(self, f"rotary_{key(name)}", None)


def _merges(model: Any, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """Patch merging by the first block of its stage, of the stages among `names` but the first of the model."""
    if not hasattr(model, "layers"):
        return {}
    found = [(f"layers.{number}.blocks.0", stage.downsample) for number, stage in enumerate(model.layers)]
    return {key(name): merge for name, merge in found[1:] if name in names}


@torch.no_grad()
def _rotary(model: Any, facts: BackboneFacts, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Rotary positions of every block, of a model that has them."""
    if getattr(model, "rope", None) is None:
        return {}
    found = model.rope.get_embed(shape=model.patch_embed.grid_size)
    mixed = getattr(model, "rope_mixed", False)
    return {name: found[int(name.rpartition(".")[2])] if mixed else found for name in names}


def _stem(model: Any) -> nn.Module:
    """The model without blocks and without its last normalisation: `forward_features` then embeds."""
    if hasattr(model, "layers"):
        model.layers = nn.Sequential()
    else:
        model.blocks = nn.Sequential()
    model.norm = nn.Identity()
    stem: nn.Module = model
    return stem
