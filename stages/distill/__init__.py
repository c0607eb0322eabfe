"""Distillers: from the frozen tokens of every tap to a few vectors per segment. One file a method, by registry.

Legend: B batch, T segments, N tokens, C channels of a tap, K meta-tokens, d common width.

A distiller is a module called with `tokens[modality][tap]` of shape `[B, T, N, C]` (any float type), and with
`statistics[modality][tap]` of shape `[B, T, N, 2]` (mean and inverse deviation of each token over its channels) for the
taps where they are stored, that returns a `Distilled` per modality. Heads see nothing else of the method, so a method
and the control that replaces it differ in the distiller alone. A method that attends to tokens may also say where it
looks (`Looking`); reports draw that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from avpipe.pipeline.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from avpipe.stages.config import TrainConfig

Shapes = Mapping[str, Mapping[str, tuple[int, int]]]
"""`shapes[modality][tap]` is `(N, C)`; taps in order of depth."""
Tokens = Mapping[str, Mapping[str, "Tensor"]]
"""Tensors by modality and tap."""
Builder = Callable[[Shapes, "TrainConfig"], "nn.Module"]


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a distiller gives for one modality.

    Attributes:
        vector: one vector per segment, `[B, T, d]`.
        top: the meta-tokens of the last tap, mapped to the common width, `[B, T, K, d]`.
    """

    vector: Tensor
    top: Tensor


@dataclass(frozen=True, slots=True)
class Looks:
    """Where a distiller looks in one modality. M is the number of its mechanisms.

    Attributes:
        mechanisms: key and label of each mechanism.
        weights: by tap, shares of attention `[B, T, M, N]`, mean over heads and meta-tokens; they sum to one over N.
        gates: by tap, mean absolute value of the gate through which all mechanisms but the first pass, if there is one.
    """

    mechanisms: tuple[tuple[str, str], ...]
    weights: dict[str, Tensor]
    gates: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Looking(Protocol):
    """A distiller, or a part of one for some modality, that can say where it looks."""

    def looks(self, tokens: Mapping[str, Tensor], statistics: Mapping[str, Tensor]) -> Looks:
        """Where it looks in `tokens[tap]` `[B, T, N, C]` of its modality."""


_MODULES = {"mettle": "lcd", "linear": "linear"}
_builders: dict[str, Builder] = {}
END_TO_END = ("lavish",)
"""Methods that are no distillers: they read no cached tokens."""


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator that makes a builder of distillers known under `name`."""

    def keep(builder: Builder) -> Builder:
        _builders[name] = builder
        return builder

    return keep


def names() -> tuple[str, ...]:
    """Every distiller, sorted. Imports nothing heavy."""
    return tuple(sorted({*_MODULES, *_builders}))


def methods() -> tuple[str, ...]:
    """Every `--method`, sorted: distillers, and what trains the backbones' adapters from stored media."""
    return tuple(sorted({*names(), *END_TO_END}))


def build(method: str, shapes: Shapes, config: TrainConfig) -> nn.Module:
    """The distiller of `method` for taps of the given shapes.

    Raises:
        UsageError: no such method.
    """
    if method not in names():
        raise unknown_name("method", method, names())
    if method not in _builders:
        import_module(f"{__name__}.{_MODULES[method]}")
    return _builders[method](shapes, config)
