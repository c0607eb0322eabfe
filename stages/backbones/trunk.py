"""A frozen backbone opened up: run block by block from any block on, gradients passing through its tokens.

Stage one needs tokens and nothing else (`contract.Backbone`). Meta-Token Injection (MTI) changes tokens between blocks
and goes on from there, and adapters stand beside the two halves of every block: both call a trunk.

    trunk = open_trunk(cache.specs["visual"], first="blocks.9", last="blocks.11", device=device)
    x = trunk.block("blocks.9", tokens_of_blocks_8)

Legend: S segments, N tokens, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from avpipe.stages.backbones.precision import autocast


class Trunk(nn.Module, ABC):
    """Some consecutive blocks of a frozen backbone, in evaluation mode, whatever `train` is told.

    Tokens are what taps hold: raw block outputs `[S, N, C]`, prefix tokens included, Swin's row by row.

    Attributes:
        names: the blocks that it has, named as taps, in order of depth.
        weights_sha256: hash of the whole backbone's tensors, as stage one computes it.
        precision: type in which it computes, as in `BackboneFacts`.
    """

    names: tuple[str, ...]
    weights_sha256: str
    precision: str

    @abstractmethod
    def embed(self, media: Tensor) -> Tensor:
        """What the first block takes, `[S, N, C]`, from what is stored.

        Args:
            media: frames, uint8 `[S, H, W, 3]`, or samples, int16 `[S, samples of a segment]`.

        Raises:
            ValueError: the trunk does not begin with the backbone's first block.
        """

    @abstractmethod
    def merge(self, name: str, x: Tensor) -> Tensor:
        """The output of the block before `name` as `name` takes it: merged to a coarser grid where a stage begins."""

    @abstractmethod
    def attention(self, name: str, x: Tensor) -> Tensor:
        """The first half of a block: `x` and what its attention adds."""

    @abstractmethod
    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        """The second half of a block: `x` and what its feed-forward network adds."""

    @abstractmethod
    def _whole(self, name: str, x: Tensor) -> Tensor:
        """A block as the library runs it, without the merge."""

    def block(self, name: str, x: Tensor) -> Tensor:
        """The output of block `name` from the output of the block before it (of `embed` for the first one)."""
        with autocast(self.precision, x.device):
            return self._whole(name, self.merge(name, x))

    def train(self, mode: bool = True) -> Trunk:
        """Frozen: dropout and running statistics stay off."""
        return super().train(False)
