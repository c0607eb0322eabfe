"""A frozen backbone opened up: run block by block from any block on, gradients passing through its tokens.

Stage one needs tokens and nothing else (`contract.Backbone`). Meta-Token Injection (MTI) changes tokens between blocks
and goes on from there, and adapters stand beside the two halves of every block: both call a trunk.

    trunk = open_trunk(cache.specs["visual"], first="blocks.9", last="blocks.11", device=device)
    x = trunk.block("blocks.9", tokens_of_blocks_8)

Legend: S segments, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avpipe.stages.backbones.contract import BackboneFacts
from avpipe.stages.backbones.precision import autocast, check_device


class Trunk(nn.Module, ABC):
    """Some consecutive blocks of a frozen backbone, in evaluation mode, whatever `train` is told.

    Tokens are what taps hold: raw block outputs `[S, N, C]`, prefix tokens included, Swin's row by row.

    Args:
        facts: what is known of the backbone.
        first, last: names of blocks.
        device: where to.

    Attributes:
        names: the blocks that it has, named as taps, in order of depth.
        weights_sha256: hash of the whole backbone's tensors, as stage one computes it.
        precision: type in which it computes, as in `BackboneFacts`.
        stream: type of every tap of the backbone before it is stored; see `resume`.
        whole_start: whether it begins with the backbone's first block.
        front: from what is stored to the backbone's pictures; None where the trunk does not begin with the first block.
    """

    names: tuple[str, ...]
    weights_sha256: str
    precision: str
    whole_start: bool
    stream: Mapping[str, torch.dtype]
    front: nn.Module | None

    def __init__(self, facts: BackboneFacts, first: str, last: str, device: torch.device) -> None:
        super().__init__()
        check_device(facts.precision, device)
        every = tuple(facts.taps)
        self.names = every[every.index(first) : every.index(last) + 1]
        self.whole_start = first == every[0]
        self.precision, self._grids = facts.precision, facts.grids

    def embed(self, media: Tensor) -> Tensor:
        """What the first block takes, `[S, N, C]`, from what is stored.

        Args:
            media: frames, uint8 `[S, H, W, 3]`, or samples, int16 `[S, samples of a segment]`.

        Raises:
            ValueError: the trunk does not begin with the backbone's first block.
        """
        if self.front is None:
            raise ValueError(f"this trunk begins with {self.names[0]}, not with the backbone's first block")
        pictures = self.front(media)
        with autocast(self.precision, media.device):
            return self._embed(pictures)

    def resume(self, tap: str, tokens: Tensor) -> Tensor:
        """Stored tokens of a tap in the type in which the block behind it takes them in a whole pass.

        In float32 a bfloat16 sum of blocks would go on without the roundings of a whole pass.
        """
        return tokens.to(self.stream[tap])

    def merge(self, name: str, x: Tensor) -> Tensor:
        """The output of the block before `name` as `name` takes it: merged to a coarser grid where a stage begins."""
        with autocast(self.precision, x.device):
            return self._merge(name, x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        """The first half of a block, behind `merge`: `x` and what its attention adds.

        Raises:
            UsageError: the block is none of two halves.
        """
        with autocast(self.precision, x.device):
            return self._attention(name, x)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        """The second half of a block: `x` and what its feed-forward network adds.

        Raises:
            UsageError: the block is none of two halves.
        """
        with autocast(self.precision, x.device):
            return self._feed_forward(name, x)

    def block(self, name: str, x: Tensor) -> Tensor:
        """The output of block `name` from the output of the block before it (of `embed` for the first one)."""
        with autocast(self.precision, x.device):
            return self._whole(name, self._merge(name, x))

    @abstractmethod
    def _embed(self, pictures: Tensor) -> Tensor:
        """See `embed`; `pictures` are what `front` makes."""

    @abstractmethod
    def _merge(self, name: str, x: Tensor) -> Tensor:
        """See `merge`."""

    @abstractmethod
    def _attention(self, name: str, x: Tensor) -> Tensor:
        """See `attention`."""

    @abstractmethod
    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        """See `feed_forward`."""

    @abstractmethod
    def _whole(self, name: str, x: Tensor) -> Tensor:
        """A block as the library runs it, without the merge."""

    def train(self, mode: bool = True) -> Trunk:
        """Frozen: dropout and running statistics stay off."""
        return super().train(False)


def key(name: str) -> str:
    """A block's name without dots, which torch does not take in names of modules."""
    return name.replace(".", "_")
