"""timm models block by block.

Legend: S segments, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avpipe.stages.backbones.contract import BackboneChoice, BackboneFacts, stage_index
from avpipe.stages.backbones.precision import autocast, check_device
from avpipe.stages.backbones.timm_model import make_front_end
from avpipe.stages.backbones.timm_table import Entry
from avpipe.stages.backbones.timm_weights import build, hash_tensors
from avpipe.stages.backbones.trunk import Trunk


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
        super().__init__()
        check_device(facts.precision, device)
        every = tuple(facts.taps)
        self.names = every[every.index(first) : every.index(last) + 1]
        self.precision, self._grids = facts.precision, facts.grids
        model: Any = build(choice, facts, entry)
        self.weights_sha256 = hash_tensors(model.state_dict())
        self.blocks = nn.ModuleDict({_key(name): model.get_submodule(name) for name in self.names})
        self.merges = nn.ModuleDict(_merges(model, self.names))
        for name, rotary in _rotary(model, facts, self.names).items():
            self.register_buffer(f"rotary_{_key(name)}", rotary, persistent=False)
        self.stem: Any = _stem(model) if first == every[0] else None
        self.front = make_front_end(facts) if first == every[0] else None
        self.eval().requires_grad_(False).to(device)

    def embed(self, media: Tensor) -> Tensor:
        """See `Trunk.embed`."""
        if self.stem is None or self.front is None:
            raise ValueError(f"this trunk begins with {self.names[0]}, not with the first block")
        with autocast(self.precision, media.device):
            tokens: Tensor = self.stem.forward_features(self.front(media))
        return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens

    def merge(self, name: str, x: Tensor) -> Tensor:
        """See `Trunk.merge`."""
        if _key(name) not in self.merges:
            return x
        before = self._grids[f"layers.{stage_index(name) - 1}.blocks.0"]
        merged: Tensor = self.merges[_key(name)](x.view(len(x), *before, -1))
        return merged.flatten(1, 2)

    def attention(self, name: str, x: Tensor) -> Tensor:
        """See `Trunk.attention`."""
        raise NotImplementedError

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        """See `Trunk.feed_forward`."""
        raise NotImplementedError

    def _whole(self, name: str, x: Tensor) -> Tensor:
        block = self.blocks[_key(name)]
        if name.startswith("layers."):
            on_grid: Tensor = block(x.view(len(x), *self._grids[name], -1))
            return on_grid.flatten(1, 2)
        rotary = getattr(self, f"rotary_{_key(name)}", None)
        out: Tensor = block(x) if rotary is None else block(x, rope=rotary)
        return out


def _key(name: str) -> str:
    """A block's name without dots, which torch does not take in names of modules."""
    return name.replace(".", "_")


def _merges(model: Any, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """Patch merging by the first block of its stage, of the stages among `names` but the first of the model."""
    if not hasattr(model, "layers"):
        return {}
    found = [(f"layers.{number}.blocks.0", stage.downsample) for number, stage in enumerate(model.layers)]
    return {_key(name): merge for name, merge in found[1:] if name in names}


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
