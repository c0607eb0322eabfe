"""A distiller and a task head as one module, built from a description that is saved with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from avpipe.pipeline.errors import UsageError
from avpipe.stages import distill
from avpipe.stages.backbones.contract import grid_of
from avpipe.stages.config import TrainConfig
from avpipe.stages.heads import event
from avpipe.stages.heads.mask import MaskHead
from avpipe.stages.heads.parsing import ParsingHead, ParsingOutput

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Cache
    from avpipe.stages.features import FeatureBatch, FeatureStore

PATCH_PIXELS = 16
"""Mask pixels for each position of the decoder's grid where there are no patch tokens."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model is built for, besides its `TrainConfig`.

    Attributes:
        task: `events`, `parsing` or `segmentation`.
        classes: number of classes, background included (events).
        shapes: `(N, C)` by modality and tap, taps in order of depth.
        grid: rows and columns of the visual patch tokens (segmentation).
        prefix_tokens: visual tokens before the patches (segmentation).
        mask_size: height and width of the masks, pixels (segmentation).
    """

    task: str
    classes: int
    shapes: dict[str, dict[str, tuple[int, int]]]
    grid: tuple[int, int] = (0, 0)
    prefix_tokens: int = 0
    mask_size: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for YAML."""
        shapes = {m: {tap: list(shape) for tap, shape in taps.items()} for m, taps in self.shapes.items()}
        return {
            "task": self.task,
            "classes": self.classes,
            "shapes": shapes,
            "grid": list(self.grid),
            "prefix_tokens": self.prefix_tokens,
            "mask_size": list(self.mask_size),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`."""
        shapes = {m: {tap: (int(n), int(c)) for tap, (n, c) in taps.items()} for m, taps in values["shapes"].items()}
        (rows, columns), (height, width) = values["grid"], values["mask_size"]
        return cls(
            str(values["task"]),
            int(values["classes"]),
            shapes,
            (int(rows), int(columns)),
            int(values["prefix_tokens"]),
            (int(height), int(width)),
        )


def describe(
    cache: Cache, store: FeatureStore, task: str, classes: int, mask_size: tuple[int, int] | None = None
) -> ModelSpec:
    """The model that fits a cache and a task.

    Args:
        cache: gives the patch grid of the visual backbone.
        store: gives the taps in use.
        task: `events`, `parsing` or `segmentation`.
        classes: number of classes.
        mask_size: height and width of the masks (segmentation).

    Raises:
        UsageError: the visual taps are no patch grid, or the cache does not say which.
    """
    if task != "segmentation" or mask_size is None:
        return ModelSpec(task, classes, store.shapes)
    if "visual" not in store.shapes:
        grid = (max(1, mask_size[0] // PATCH_PIXELS), max(1, mask_size[1] // PATCH_PIXELS))
        return ModelSpec(task, classes, store.shapes, grid, 0, mask_size)
    if cache.specs["visual"].imported:
        raise UsageError(
            f"the visual features of cache {cache.path} were imported, and nothing says how their tokens lie on the "
            "picture, which the mask decoder needs: run `avpipe extract` into another cache, or use --modality audio"
        )
    backbone = cache.specs["visual"].fields["backbone"]
    prefix, last = int(backbone["prefix_tokens"]), list(store.shapes["visual"])[-1]
    rows, columns = grid_of(backbone, last)
    if not rows * columns:
        raise UsageError(
            f"cache {cache.path} does not say how the tokens of visual/{last} lie on the picture, which the mask "
            "decoder needs: it was made by an earlier version; run `avpipe extract` into another cache"
        )
    for tap, (tokens, _) in store.shapes["visual"].items():
        if tokens != prefix + rows * columns:
            raise UsageError(
                f"tap visual/{tap} of cache {cache.path} has {tokens} tokens, not {prefix} + {rows} x {columns}: the "
                "mask decoder needs taps on one patch grid; extract a cache with a ViT"
            )
    return ModelSpec(task, classes, store.shapes, (int(rows), int(columns)), prefix, mask_size)


class EventModel(nn.Module):
    """Distiller over all taps and the head that the settings name.

    In weakly supervised training on both modalities the head also sees pairs that do not belong together, see
    `tasks.events`; the distiller, which is most of a step, runs once.
    """

    def __init__(self, spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        self.distiller = distill.build(config.method, spec.shapes, config)
        self.head = event.build(tuple(spec.shapes), spec.classes, config)
        self.crossing = config.supervision == "weak" and config.crossed > 0 and len(spec.shapes) == 2

    def forward(self, batch: FeatureBatch) -> event.EventOutput | event.Crossed:
        """What the head gives for the clips; in training perhaps also for crossed pairs."""
        distilled = self.distiller(batch.tokens, batch.statistics)
        own: event.EventOutput = self.head(distilled, batch.present)
        if not (self.training and self.crossing and len(batch.indices) > 1):
            return own
        return event.Crossed(own, self.head(*event.cross(distilled, batch.present)))


class ParsingModel(nn.Module):
    """Distiller over all taps and the parsing head."""

    def __init__(self, spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        self.distiller = distill.build(config.method, spec.shapes, config)
        self.head = ParsingHead(tuple(sorted(spec.shapes)), config.width, spec.classes, dropout=config.dropout)

    def forward(self, batch: FeatureBatch) -> ParsingOutput:
        """Probabilities; modalities in alphabetical order."""
        distilled = self.distiller(batch.tokens, batch.statistics)
        found: ParsingOutput = self.head(distilled, batch.present, batch.valid)
        return found


class MaskModel(nn.Module):
    """Distiller over the top tap of each modality (published for segmentation) and the mask decoder over all taps."""

    def __init__(self, spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        top = {m: dict([list(taps.items())[-1]]) for m, taps in spec.shapes.items()}
        self.distiller = distill.build(config.method, top, config)
        self.head = MaskHead(
            spec.shapes.get("visual", {}),
            spec.grid,
            spec.prefix_tokens,
            spec.mask_size,
            tuple(spec.shapes),
            width=config.width,
            dropout=config.dropout,
        )

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Logits `[B, T, h, w]` at the decoder's resolution."""
        logits: Tensor = self.head(batch.tokens.get("visual", {}), self.distiller(batch.tokens, batch.statistics))
        return logits


def build_model(spec: ModelSpec, config: TrainConfig) -> nn.Module:
    """The model of a run, with fresh weights from torch's random numbers."""
    models = {"events": EventModel, "parsing": ParsingModel, "segmentation": MaskModel}
    return models[spec.task](spec, config)
