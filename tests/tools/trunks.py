"""Backbones of every family, small, twice over: as stage one runs them, and opened block by block.

Legend: S segments, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from timm_small import CASES, Case, frames
from torch import Tensor, nn

from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import FAMILIES, BackboneChoice, BackboneFacts, facts_of
from avpipe.stages.backbones.timm_audio import audio_facts
from avpipe.stages.backbones.timm_model import TimmModel
from avpipe.stages.backbones.timm_table import Entry
from avpipe.stages.backbones.timm_trunk import TimmTrunk
from avpipe.stages.backbones.trunk import Trunk, key

HTSAT = "HTS-AT"
GROUPED = {"depth": 4, "embed_dim": 48, "num_heads": 4, "num_kv_heads": (4, 2, 2, 4)}
OF_TIMM = {
    **CASES,
    "ViT, norm behind": Case("vit_base_patch16_rpn_224", 64),
    "Sapiens2": Case("vit_base_patch16_sapiens2", 64, options=GROUPED),  # in training, positions are drawn at random
}
NAMES = (*OF_TIMM, HTSAT)
Tokens = dict[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A backbone and what to feed it.

    Attributes:
        facts: what is known of it.
        media: frames or samples of two segments.
        loaded: as stage one loads it, with every tap.
        opened: the trunk from one block to another.
    """

    facts: BackboneFacts
    media: Tensor
    loaded: Callable[[], Any]
    opened: Callable[[str, str], Trunk]

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of its blocks."""
        return tuple(self.facts.taps)

    def trunk(self, first: str = "", last: str = "") -> Trunk:
        """The trunk; default: all of it."""
        return self.opened(first or self.taps[0], last or self.taps[-1])

    @cached_property
    def full(self) -> Tokens:
        """Every tap by stage one, which knows nothing of trunks."""
        found = self.loaded().features(self.media.numpy())
        return {tap: torch.from_numpy(tokens) for tap, tokens in found.items()}


@cache
def subject(name: str, precision: str = "float32") -> Subject:
    """The case of that name. HTS-AT is small as long as `htsat_small.shrink` lasts."""
    if name == HTSAT:
        choice = BackboneChoice("audio", "htsat", "random:3", precision=precision)
        return whole(choice, sound(32_000))
    case = OF_TIMM[name]
    choice = BackboneChoice("visual", case.model, "random:3", case.size, precision=precision)
    return _of_timm(case.entry, choice, case.facts(precision=precision), torch.from_numpy(frames(case.size)))


def on_sound(name: str, front_end: str) -> Subject:
    """A case of timm's on pictures of sound, whose grids are not square with every front end."""
    case = OF_TIMM[name]
    choice = BackboneChoice("audio", case.model, "random:3", front_end=front_end)
    return _of_timm(case.entry, choice, audio_facts(choice, Timeline(), case.entry), sound(16_000))


def whole(choice: BackboneChoice, media: Tensor) -> Subject:
    """A backbone at its own size."""
    facts = facts_of(choice, Timeline())
    family = FAMILIES[facts.family]
    return Subject(
        facts,
        media,
        lambda: family.load(choice, facts, tuple(facts.taps), "cpu"),
        lambda first, last: family.trunk(choice, facts, first, last, "cpu"),
    )


def _of_timm(entry: Entry, choice: BackboneChoice, facts: BackboneFacts, media: Tensor) -> Subject:
    cpu = torch.device("cpu")
    return Subject(
        facts,
        media,
        lambda: TimmModel(choice, facts, entry, tuple(facts.taps), "cpu"),
        lambda first, last: TimmTrunk(choice, facts, entry, first, last, cpu),
    )


def sound(rate: int, segments: int = 2) -> Tensor:
    """A second of a rising tone and some hiss for each segment, int16 [S, rate]."""
    rng, time = np.random.default_rng(0), np.arange(rate) / rate
    tones = [np.sin(2 * np.pi * (200 * (1 + number) + 900 * time) * time) for number in range(segments)]
    return torch.from_numpy((8000 * np.stack(tones) + 300 * rng.standard_normal((segments, rate))).astype(np.int16))


def run_on(trunk: Trunk, x: Tensor, first: str = "", last: str = "") -> Tokens:
    """Blocks of a trunk one after the other, from one to another (default: all), from what the first of them takes."""
    found: Tokens = {}
    names = trunk.names
    for name in names[names.index(first or names[0]) : names.index(last or names[-1]) + 1]:
        found[name] = x = trunk.block(name, x)
    return found


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative, in the norm of all values (Frobenius)."""
    return float((found - expected).norm() / expected.norm())


def worst(found: Tokens, expected: Tokens) -> float:
    """The largest difference of a tap."""
    return max(difference(tokens, expected[tap]) for tap, tokens in found.items())


def gradients(backbone: Any, front: nn.Module, media: Tensor, weight: Tensor) -> Tokens:
    """dL/dx of every block's output x, of L = sum of weight * last block's output, in one pass of the library's own.

    Args:
        backbone: as stage one loads it.
        front: its front end.
        media: what it is fed.
        weight: [S, N, C].
    """
    outputs: Tokens = {}

    def keep(name: str, output: Any) -> None:
        outputs[name] = output[0] if isinstance(output, tuple) else output
        outputs[name].retain_grad()

    model = backbone._model
    inner = next(iter(model.children()))
    blocks = {name: module for name, module in inner.named_modules() if name.split(".")[-2:-1] == ["blocks"]}
    for name, block in blocks.items():
        block.register_forward_hook(lambda module, given, output, name=name: keep(name, output))
    last = list(model(front(media).requires_grad_()).values())[-1]
    (last * weight).sum().backward()
    return {name: _rows(output.grad) for name, output in outputs.items()}


def _rows(tokens: Tensor | None) -> Tensor:
    assert tokens is not None
    return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens


class Skipped(nn.Module):
    """A block that does nothing, in place of any family's."""

    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: Tensor, *others: Any, **more: Any) -> Any:
        """What went in, as the family's blocks return it."""
        return (x,) if self.pair else x


class MeanOfFour(nn.Module):
    """The mean of two by two tokens, twice over, in the place of a learned merge; any family's tokens."""

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Tokens [S, H, W, C], or [S, N, C] with their grid."""
        picture = x if grid is None else x.view(len(x), *grid, -1)
        pooled = nn.functional.avg_pool2d(picture.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        doubled = torch.cat([pooled, pooled], dim=-1)
        return doubled if grid is None else doubled.flatten(1, 2)


def skip(trunk: Trunk, name: str) -> nn.Module:
    """Leaves a block out, and returns it."""
    block = trunk.blocks[key(name)]
    trunk.blocks[key(name)] = Skipped(pair=not isinstance(trunk, TimmTrunk))
    return block


def unshift(trunk: Trunk, name: str) -> None:
    """Takes the shift of a block's windows away."""
    block: Any = trunk.blocks[key(name)]
    assert np.any(block.shift_size)
    block.shift_size = (0, 0) if isinstance(trunk, TimmTrunk) else 0
    block.attn_mask = None


def unrotate(trunk: Trunk) -> None:
    """Takes rotary positions away."""
    rotary = [name for name, _ in trunk.named_buffers() if name.startswith("rotary_")]
    assert rotary
    for name in rotary:
        trunk._buffers[name] = None
