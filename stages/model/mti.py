"""The model of segmentation with Meta-Token Injection (`avpipe.stages.inject`), on a backbone that runs again.

    cached tokens before the first block that takes meta-tokens          cached tokens of the top taps
                        |                                                            |
                        v                                                        distiller
             x' = x + gate * attention(x, meta-tokens)  <----------------------------+
                        |                                                            |
        frozen block(s), injection, frozen block(s), ... -> the decoder's taps -> decoder -> masks

A tap whose next block takes meta-tokens holds x'; taps before the first such block come from the cache as they are.
With `inject=side` the cached taps before those blocks are adapted in the same way and nothing runs.

Legend: B batch, T segments, S segments that run, N tokens, C channels, K meta-tokens, d common width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avpipe.stages.backbones.trunk import key
from avpipe.stages.config import TrainConfig
from avpipe.stages.inject import Injection
from avpipe.stages.model.cached import MaskModel
from avpipe.stages.model.padding import present_only, spread
from avpipe.stages.model.spec import ModelSpec, tap_depth
from avpipe.stages.taps import bare

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk
    from avpipe.stages.features import FeatureBatch


class MtiModel(MaskModel):
    """`MaskModel` with injections: distiller and decoder have the same parameters under the same names.

    Args:
        spec: `injected` says where, `resume` from which tap on the backbone runs.
        config: `inject` is `rerun` or `side`.
        trunk: the visual backbone from the block after `resume` on, or from an earlier one. It is no part of this
            module's parameters. Needed for a forward pass with `inject=rerun`.
    """

    def __init__(self, spec: ModelSpec, config: TrainConfig, trunk: Trunk | None = None) -> None:
        super().__init__(spec, config)
        modalities = tuple(spec.shapes)
        self.injections = nn.ModuleDict(
            {key(name): Injection(channels, modalities, config) for name, channels in spec.injected.items()}
        )
        self.spec, self.rerun, self.saving = spec, config.inject == "rerun", config.checkpointing == "on"
        self.outside = (trunk,)  # in a tuple torch takes it for no module of this one

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Logits as `MaskModel`'s."""
        distilled = self.distiller(batch.tokens, batch.statistics)
        meta = {modality: found.top for modality, found in distilled.items()}
        visual = self._run_again(batch, meta) if self.rerun else self._adapted(batch, meta)
        logits: Tensor = self.head(visual, distilled)
        return logits

    def _adapted(self, batch: FeatureBatch, meta: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cached taps `[B, T, N, C]`, those before a block of `injected` adapted."""
        visual = dict(batch.tokens["visual"])
        meta = {modality: tokens.flatten(0, 1) for modality, tokens in meta.items()}
        for name in self.spec.injected:
            before = max((tap for tap in visual if tap_depth(tap) < tap_depth(name)), key=tap_depth)
            tokens = visual[before]
            visual[before] = self.injections[key(name)](tokens.flatten(0, 1), meta).view_as(tokens)
        return visual

    def _run_again(self, batch: FeatureBatch, meta: dict[str, Tensor]) -> dict[str, Tensor]:
        """The decoder's taps `[B, T, N, C]`: from the cache before `resume`, of the backbone's blocks from there on.

        The backbone runs on the segments that are present; its taps hold zeros for the others.
        """
        trunk, present = self._trunk(), batch.present  # B T
        meta = {modality: present_only(tokens, present) for modality, tokens in meta.items()}
        taps = {bare(tap): tap for tap in self.spec.shapes["visual"]}
        deepest = list(taps)[-1]
        found = {tap: tokens for tap, tokens in batch.tokens["visual"].items() if tap in taps.values()}
        x, before = self._prefix(batch), bare(self.spec.resume)
        first = trunk.names.index(next(iter(self.spec.injected))) if self.spec.resume else 0
        for name in trunk.names[first : trunk.names.index(deepest) + 1]:
            if name in self.spec.injected:
                x = self.injections[key(name)](x, meta).to(x.dtype)  # a bfloat16 sum of blocks stays one
            if before in taps:
                found[taps[before]] = spread(x, present)
            x, before = self._block(name, x), name
        return {**found, taps[deepest]: spread(x, present)}

    def _prefix(self, batch: FeatureBatch) -> Tensor:
        """What the first block that runs is given, before any injection: `[S, N, C]`."""
        trunk, resume = self._trunk(), self.spec.resume
        if resume:
            return trunk.resume(bare(resume), present_only(batch.tokens["visual"][resume], batch.present))
        return trunk.embed(present_only(batch.media["visual"], batch.present))

    def _block(self, name: str, x: Tensor) -> Tensor:
        if self.saving and torch.is_grad_enabled() and x.requires_grad:
            out: Tensor = checkpoint(self._trunk().block, name, x, use_reentrant=False, preserve_rng_state=False)
            return out
        return self._trunk().block(name, x)

    def _trunk(self) -> Trunk:
        trunk = self.outside[0]
        if trunk is None:
            raise ValueError("this model runs the visual backbone: build it with the trunks of `open_trunks`")
        return trunk
