"""Two frozen backbones in lockstep, with an adapter beside each half of every block.

Legend: S segments, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avpipe.stages.backbones.trunk import key
from avpipe.stages.config import TrainConfig
from avpipe.stages.lavish.adapter import Adapter, uncounted
from avpipe.stages.lavish.pairing import Step, Widths, lockstep, met_widths, other_of

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk

HALVES = ("attention", "feed_forward")


class AdaptedBackbones(nn.Module):
    """The adapters of two backbones, and how they run with them.

    Adapters stand parallel to a half: `x' = half(x) + adapter(x, y)`, y the other modality's tokens at that moment; of
    two blocks side by side both take what was there before either changed (LAVISH).

    Args:
        widths: channels of every block, by modality, two of them.
        config: `meta_tokens` latents each, bottlenecks of width `rank`; with `checkpointing=on` a step of the lockstep
            keeps nothing but its input for the backward pass.
        trunks: the backbones from their first block on, by modality; no part of this module's parameters. Needed for a
            forward pass.
    """

    def __init__(self, widths: Widths, config: TrainConfig, trunks: Mapping[str, Trunk] | None = None) -> None:
        super().__init__()
        first, second = widths
        self.modalities = (first, second)
        self.steps = lockstep((first, list(widths[first])), (second, list(widths[second])))
        met, sizes = met_widths(self.steps, widths), {"latents": config.meta_tokens, "width": config.rank}
        self.adapters = nn.ModuleDict()
        for modality, blocks in widths.items():
            for block, channels in blocks.items():
                for half in HALVES:
                    adapter = Adapter(channels, met[modality][block], **sizes)
                    self.adapters[_name(modality, block, half)] = adapter
        self.saving = config.checkpointing == "on"
        self.outside = (dict(trunks or {}),)  # in a tuple torch takes them for no modules of this one

    def forward(
        self, media: Mapping[str, Tensor], wanted: Mapping[str, tuple[str, ...]]
    ) -> dict[str, dict[str, Tensor]]:
        """Runs both backbones.

        Args:
            media: by modality, frames uint8 `[S, H, W, 3]` and samples int16 `[S, samples]` of the same segments.
            wanted: names of blocks by modality.

        Returns:
            their raw outputs by modality and block, `[S, N, C]`.
        """
        found: dict[str, dict[str, Tensor]] = {modality: {} for modality in wanted}
        x = {modality: self._trunk(modality).embed(media[modality]) for modality in self.modalities}
        for step in self.steps:
            x = self._saved(step, x) if self.saving and torch.is_grad_enabled() else self._run(step, x)
            for modality, block in step.items():
                if block in wanted[modality]:
                    found[modality][block] = x[modality]
        return {modality: {name: found[modality][name] for name in names} for modality, names in wanted.items()}

    def _run(self, step: Step, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tokens of both modalities after a step, from those before it."""
        x = x | {modality: self._trunk(modality).merge(block, x[modality]) for modality, block in step.items()}
        for half in HALVES:
            x = x | {modality: self._half(half, modality, block, x) for modality, block in step.items()}
        return x

    def _half(self, half: str, modality: str, block: str, x: dict[str, Tensor]) -> Tensor:
        frozen = getattr(self._trunk(modality), half)
        own, other = x[modality], x[other_of(modality, x)]
        adapted: Tensor = frozen(block, own) + self.adapters[_name(modality, block, half)](own, other)
        return adapted

    def _saved(self, step: Step, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """`_run` that is computed anew in the backward pass instead of keeping what it computed."""

        def run(*tokens: Tensor) -> tuple[Tensor, ...]:
            return tuple(self._run(step, dict(zip(x, tokens, strict=True))).values())

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), uncounted([self.adapters])

        after = checkpoint(run, *x.values(), use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        return dict(zip(x, after, strict=True))

    def _trunk(self, modality: str) -> Trunk:
        if modality not in self.outside[0]:
            raise ValueError(f"this model was built without its {modality} backbone: give it the trunks")
        return self.outside[0][modality]


def _name(modality: str, block: str, half: str) -> str:
    """Of an adapter, among parameters and in checkpoints."""
    return f"{modality}_{key(block)}_{half}"
