"""Models on cached tokens alone: a distiller and a task head as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from avpipe.stages import distill
from avpipe.stages.config import TrainConfig
from avpipe.stages.heads import event
from avpipe.stages.heads.mask import MaskHead
from avpipe.stages.heads.parsing import ParsingHead, ParsingOutput
from avpipe.stages.model.spec import ModelSpec

if TYPE_CHECKING:
    from avpipe.stages.features import FeatureBatch


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
            spec.grids,
            spec.prefix_tokens,
            spec.mask_size,
            tuple(spec.shapes),
            width=config.width,
            dropout=config.dropout,
            classes=spec.classes if spec.task == "semantic" else 1,
        )

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Logits `[B, T, h, w]` at the decoder's resolution; `[B, T, classes, h, w]` with several classes."""
        logits: Tensor = self.head(batch.tokens.get("visual", {}), self.distiller(batch.tokens, batch.statistics))
        return logits
