"""What a model is built for, saved with its run; and what has to be read for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.errors import UsageError
from avpipe.stages.backbones.contract import grid_of
from avpipe.stages.config import MASK_TASKS, TrainConfig

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache

Grid = tuple[int, int]
Shapes = dict[str, dict[str, tuple[int, int]]]
"""`(N, C)` by modality and tap, taps in order of depth."""
PATCH_PIXELS = 16
"""Mask pixels for each position of the decoder's grid where there are no patch tokens."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model is built for, besides its `TrainConfig`.

    Attributes:
        task: `events`, `parsing`, `segmentation` or `semantic`.
        classes: number of classes, background included (events, semantic).
        shapes: `(N, C)` by modality and tap, taps in order of depth: what distiller and head work on.
        grids: rows and columns of the patch tokens by visual tap (tasks with masks); one entry `""` where no visual
            features are used.
        prefix_tokens: visual tokens before the patches (tasks with masks).
        mask_size: height and width of the masks, pixels (tasks with masks).
        injected: blocks of the visual backbone that take meta-tokens with their input, in order of depth, with the
            width C of that input. With `inject=rerun` the backbone runs again from the first of them on, with
            `inject=side` the cached outputs before them are adapted. Empty where nothing is injected.
        resume: visual tap from whose cached tokens the backbone runs again: the one before the first of `injected`, as
            the cache names it; "" for the stored frames, and where it does not run.
        adapted: blocks of both backbones that have adapters, with their width C, by modality, in order of depth; empty
            but for method `lavish`, which runs them from the stored frames and samples.
    """

    task: str
    classes: int
    shapes: Shapes
    grids: dict[str, Grid] = field(default_factory=dict)
    prefix_tokens: int = 0
    mask_size: Grid = (0, 0)
    injected: dict[str, int] = field(default_factory=dict)
    resume: str = ""
    adapted: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for YAML."""
        shapes = {m: {tap: list(shape) for tap, shape in taps.items()} for m, taps in self.shapes.items()}
        found: dict[str, Any] = {"task": self.task, "classes": self.classes, "shapes": shapes}
        if self.task in MASK_TASKS:
            found |= {"grids": {tap: list(grid) for tap, grid in self.grids.items()}}
            found |= {"prefix_tokens": self.prefix_tokens, "mask_size": list(self.mask_size)}
        if self.injected:
            found |= {"injected": dict(self.injected), "resume": self.resume}
        if self.adapted:
            found |= {"adapted": {modality: dict(blocks) for modality, blocks in self.adapted.items()}}
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`."""
        return cls(
            task=str(values["task"]),
            classes=int(values["classes"]),
            shapes={m: {tap: _pair(shape) for tap, shape in taps.items()} for m, taps in values["shapes"].items()},
            grids={str(tap): _pair(grid) for tap, grid in values.get("grids", {}).items()},
            prefix_tokens=int(values.get("prefix_tokens", 0)),
            mask_size=_pair(values.get("mask_size", (0, 0))),
            injected={str(name): int(width) for name, width in values.get("injected", {}).items()},
            resume=str(values.get("resume", "")),
            adapted={
                m: {str(b): int(width) for b, width in each.items()} for m, each in values.get("adapted", {}).items()
            },
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model is fed from a cache.

    Attributes:
        taps: names of the taps by modality, in order of depth.
        media: modalities whose stored frames or samples are read.
    """

    taps: dict[str, tuple[str, ...]]
    media: tuple[str, ...] = ()


def reading(spec: ModelSpec, config: TrainConfig) -> Reading:
    """What a model is fed: nothing that it computes itself."""
    every = {modality: tuple(taps) for modality, taps in spec.shapes.items()}
    if spec.adapted:
        return Reading({}, tuple(every))
    if not spec.injected or config.inject != "rerun":
        return Reading(every)
    visual = every["visual"]
    if not spec.resume:
        return Reading({**every, "visual": visual[-1:]}, ("visual",))
    before = [tap for tap in visual[:-1] if tap_depth(tap) < tap_depth(spec.resume)]
    wanted = dict.fromkeys([*before, spec.resume, visual[-1]])
    return Reading({**every, "visual": tuple(wanted)})


def tap_depth(tap: str) -> tuple[int, ...]:
    """Sorts names of taps and blocks by depth, with or without a codec behind `@`."""
    return tuple(int(part) for part in tap.partition("@")[0].split(".") if part.isdigit())


def shapes_of(cache: Cache, taps: Mapping[str, tuple[str, ...]]) -> Shapes:
    """`(N, C)` of taps that a cache holds.

    Raises:
        UsageError: the rows of one are no tokens.
    """
    found: Shapes = {}
    for modality, names in taps.items():
        found[modality] = {}
        for tap in names:
            shape = tuple(cache.arrays[f"{modality}/{tap}"].row_shape)
            if len(shape) != 2:
                raise UsageError(
                    f"array {modality}/{tap} of cache {cache.path} has rows of shape {shape}, tokens have [N, C]"
                )
            found[modality][tap] = (int(shape[0]), int(shape[1]))
    return found


def describe(
    cache: Cache, shapes: Shapes, task: str, classes: int, mask_size: tuple[int, int] | None = None
) -> ModelSpec:
    """The model that fits a cache and a task.

    Args:
        cache: says how visual tokens lie on the picture.
        shapes: of the taps in use.
        task: see `ModelSpec`.
        classes: number of classes.
        mask_size: height and width of the masks (tasks with masks).

    Raises:
        UsageError: the visual taps are no patch grids, or the cache does not say which.
    """
    if task not in MASK_TASKS or mask_size is None:
        return ModelSpec(task, classes, shapes)
    if "visual" not in shapes:
        grid = (max(1, mask_size[0] // PATCH_PIXELS), max(1, mask_size[1] // PATCH_PIXELS))
        return ModelSpec(task, classes, shapes, {"": grid}, 0, mask_size)
    if cache.specs["visual"].imported:
        raise UsageError(
            f"the visual features of cache {cache.path} were imported, and nothing says how their tokens lie on the "
            "picture, which the mask decoder needs: run `avpipe extract` into another cache, or use --modality audio"
        )
    backbone = cache.specs["visual"].fields["backbone"]
    prefix, grids = int(backbone["prefix_tokens"]), {}
    for tap, (tokens, _) in shapes["visual"].items():
        rows, columns = grids[tap] = grid_of(backbone, tap)
        if not rows * columns:
            raise UsageError(
                f"cache {cache.path} does not say how the tokens of visual/{tap} lie on the picture, which the mask "
                "decoder needs: it was made by an earlier version; run `avpipe extract` into another cache"
            )
        if tokens != prefix + rows * columns:
            raise UsageError(
                f"tap visual/{tap} of cache {cache.path} has {tokens} tokens, not {prefix} + {rows} x {columns}: the "
                "mask decoder needs taps of whole patch grids"
            )
    return ModelSpec(task, classes, shapes, grids, prefix, mask_size)


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)
