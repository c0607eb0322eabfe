"""Segmentation with injected meta-tokens on a small real backbone with weights redrawn, and frames of noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from timm_small import CASES, Case, frames
from torch import Tensor, nn

from avpipe.stages.backbones import BackboneChoice
from avpipe.stages.backbones.timm_trunk import TimmTrunk
from avpipe.stages.config import TrainConfig
from avpipe.stages.features import FeatureBatch
from avpipe.stages.model import ModelSpec, build_model, reading

CLIPS, SEGMENTS, TOP = 2, 2, "blocks.9"
CONFIG = TrainConfig(
    stage="segment", head="mask", width=16, rank=8, heads=2, meta_tokens=2, dropout=0.0, layer_dropout=0.0
)


@dataclass(frozen=True)
class Bench:
    """A backbone with its tokens.

    Args:
        case: of `timm_small.CASES`.
        wanted: the decoder's taps; default: every one.
        codec: behind the names of visual taps, `@` included.
        precision: type in which the backbone computes.
    """

    case: Case
    wanted: tuple[str, ...] = ()
    codec: str = ""
    precision: str = "float32"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All blocks."""
        return tuple(self.case.facts().taps)

    @cached_property
    def trunk(self) -> TimmTrunk:
        """All of it."""
        choice = BackboneChoice("visual", self.case.model, "random:3", self.case.size)
        facts = self.case.facts(precision=self.precision)
        return TimmTrunk(choice, facts, self.case.entry, self.names[0], self.names[-1], torch.device("cpu"))

    @cached_property
    def pictures(self) -> Tensor:
        """uint8 `[B, T, H, W, 3]`."""
        found = torch.from_numpy(frames(self.case.size, CLIPS * SEGMENTS))
        return found.view(CLIPS, SEGMENTS, *found.shape[1:])

    @cached_property
    def tokens(self) -> dict[str, Tensor]:
        """Every tap as stage one stores it in float32, `[B, T, N, C]`."""
        found = self.case.load(precision=self.precision).features(self.pictures.flatten(0, 1).numpy())
        return {tap: torch.from_numpy(x).view(CLIPS, SEGMENTS, *x.shape[1:]) for tap, x in found.items()}

    def before(self, block: str) -> str:
        """The block before one; "" for the first."""
        return ("", *self.names)[self.names.index(block)]

    def every_second(self, first: str) -> tuple[str, ...]:
        """A block, and every second one behind it."""
        return self.names[self.names.index(first) :: 2]

    def spec(
        self, injected: tuple[str, ...], resume: str, modalities: tuple[str, ...] = ("audio", "visual")
    ) -> ModelSpec:
        """Meta-tokens before `injected`, run on from `resume`."""
        facts = self.case.facts()
        taps = {tap: facts.taps[tap] for tap in self.wanted or self.names}
        shapes = {"audio": {TOP: (9, 24)}, "visual": {f"{tap}{self.codec}": shape for tap, shape in taps.items()}}
        first = self.case.entry.stages((self.case.size, self.case.size))[0].width
        return ModelSpec(
            "segmentation",
            2,
            {m: shapes[m] for m in modalities},
            {f"{tap}{self.codec}": facts.grids[tap] for tap in taps},
            facts.prefix_tokens,
            (32, 32),
            {name: facts.taps[self.before(name)][1] if self.before(name) else first for name in injected},
            f"{resume}{self.codec}" if resume else "",
        )

    def model(self, spec: ModelSpec, *, gates: float = 0.0, **settings: str) -> nn.Module:
        """The model with the same weights for the same settings.

        Whatever starts at zero is drawn, so that nothing is hidden behind it; the gates with a deviation of `gates`.
        """
        trunks = {"visual": self.trunk}  # built before the seed is set: its weights take random numbers
        torch.manual_seed(5)
        model = build_model(spec, replace(CONFIG, **settings), trunks)
        torch.manual_seed(6)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gate = name.startswith("injections.") and name.endswith(".gate")
                if not parameter.any():
                    parameter.copy_(torch.randn_like(parameter) * (gates if gate else 0.2))
        return model

    def batch(self, spec: ModelSpec, clips: int = CLIPS, **settings: str) -> FeatureBatch:
        """What a cache in float32 gives for a model: no more than it is fed."""
        read = reading(spec, replace(CONFIG, **settings))
        every = {"audio": {TOP: sound()}, "visual": {f"{tap}{self.codec}": x for tap, x in self.tokens.items()}}
        tokens = {m: {tap: every[m][tap][:clips] for tap in taps} for m, taps in read.taps.items()}
        there = torch.ones(clips, SEGMENTS, dtype=torch.bool)
        media = dict.fromkeys(read.media, self.pictures[:clips])
        return FeatureBatch(tuple(range(clips)), tokens, there, there, {}, media)


@cache
def sound() -> Tensor:
    """Audio tokens `[B, T, N, C]`."""
    made = np.random.default_rng(3).normal(size=(CLIPS, SEGMENTS, 9, 24)).astype(np.float32)
    return torch.from_numpy(made)


@cache
def bench(name: str, wanted: tuple[str, ...] = (), codec: str = "", precision: str = "float32") -> Bench:
    """A case of `timm_small`."""
    return Bench(CASES[name], wanted, codec, precision)
