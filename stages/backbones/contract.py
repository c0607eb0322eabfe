"""What a backbone is to the rest of avpipe: facts known without weights, and a function from media to tapped tokens.

Nothing here imports torch, so plans, dry runs and a run with nothing left to do never pay for it.
Shapes: B batch, N tokens, C channels, H height, W width, S audio samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import demo_weights

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk

MODALITIES = ("visual", "audio")


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone a run asks for, as the user wrote it.

    Attributes:
        modality: `visual` or `audio`.
        model: model name, for timm with or without the tag of its weights (`vit_base_patch16_224.dino`).
        weights: `pretrained` (the model's hub), `random:SEED`, `demo` (the tiny ones that ship with avpipe), or the
            path of a weights file or, for CLAP's HTS-AT, of a folder.
        image_size: side of the square input in pixels; None takes the model's own. Visual only.
        front_end: what turns samples into the model's input, a name in `front_ends`; None: what belongs to the model.
            Audio only.
        window: what an audio backbone hears at once: `segment` (each segment by itself, repeated to the length that
            the model takes) or `clip` (as many segments as fit into that length). Audio only.
        precision: `float32`, or `bfloat16` or `float16` for autocast.
    """

    modality: str
    model: str
    weights: str = "pretrained"
    image_size: int | None = None
    front_end: str | None = None
    window: str = "segment"
    precision: str = "float32"

    @classmethod
    def parse(cls, modality: str, value: Mapping[str, Any] | str) -> BackboneChoice:
        """Reads a choice from a dataset's YAML: a model name, or a mapping with this class's fields."""
        options = {"model": value} if isinstance(value, str) else dict(value)
        known = [each.name for each in fields(cls) if each.name != "modality"]
        for key in options:
            if key not in known:
                raise unknown_name(f"key in backbones.{modality}", key, known)
        if "model" not in options:
            raise UsageError(f"backbones.{modality} names no model: {options!r}")
        return cls(modality, **options)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> BackboneChoice:
        """The choice that a cache's spec remembers as its request."""
        return cls(**{each.name: request[each.name] for each in fields(cls) if each.name in request})

    @property
    def seed(self) -> int | None:
        """Seed of random weights, or None where the weights are real."""
        kind, _, seed = self.weights.partition(":")
        if kind != "random":
            return None
        if not seed.isdigit():
            raise UsageError(f"weights {self.weights!r}: random weights need a seed, such as random:0")
        return int(seed)

    def request(self) -> dict[str, Any]:
        """The choice and, for files, their size and time: equal requests mean equal weights, without reading them."""
        found: dict[str, Any] = asdict(self)
        if self.weights == demo_weights.KEYWORD:
            return found | {"sha256": demo_weights.record(self.model, self.modality)["sha256"]}
        if self.weights != "pretrained" and self.seed is None:
            path = Path(self.weights)
            if not path.exists():
                from avpipe.stages.backbones import weights_for  # here, because the families import this module

                raise UsageError(
                    f"weights file or folder {self.weights!r} for {self.model} does not exist: give one that does, or "
                    f"{' or '.join(f'`{each}`' for each in weights_for(self.model))}, with --{self.modality}-weights"
                )
            stats = [each.stat() for each in (path.iterdir() if path.is_dir() else [path])]
            found |= {"weights": str(path.resolve()), "bytes": sum(each.st_size for each in stats)}
            found |= {"mtime_ns": max((each.st_mtime_ns for each in stats), default=0)}
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive blocks of one width on one grid; a plain ViT has one stage, Swin and HTS-AT have four.

    Attributes:
        blocks: number of blocks.
        width: channels C of their outputs.
        grid: tokens of a row, without prefix tokens, as rows and columns; for sound the columns are time, unless the
            family says otherwise.
    """

    blocks: int
    width: int
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class BackboneFacts:
    """What is known of a backbone before its weights are loaded.

    Attributes:
        model: architecture name.
        family: name of the implementation that loads it.
        modality: `visual` or `audio`.
        stages: its blocks, in order of depth.
        prefix_tokens: class and register tokens in front of the patch tokens, in every tap.
        input_size: visual: frame height and width in pixels; audio: size of the picture that the front end makes.
        preprocess: the rest of what turns media into the model's input; enters the fingerprint.
        sample_rate: samples per second that an audio backbone is fed; None for a visual one.
        window_segments: consecutive segments that an audio backbone hears at once.
        precision: type in which it computes.
    """

    model: str
    family: str
    modality: str
    stages: tuple[Stage, ...]
    prefix_tokens: int
    input_size: tuple[int, int]
    preprocess: dict[str, Any] = field(default_factory=dict)
    sample_rate: int | None = None
    window_segments: int = 1
    precision: str = "float32"

    @property
    def taps(self) -> dict[str, tuple[int, int]]:
        """Every tap by name, in order of depth, with its row shape (N, C)."""
        return {tap: (self.prefix_tokens + s.grid[0] * s.grid[1], s.width) for tap, s in self._blocks()}

    @property
    def grids(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every tap's tokens behind the prefix tokens."""
        return {tap: stage.grid for tap, stage in self._blocks()}

    @property
    def stage_ends(self) -> tuple[str, ...]:
        """The last tap of every stage; one name for a model without stages."""
        return tuple({stage_index(tap): tap for tap in self.taps}.values())

    def _blocks(self) -> Iterator[tuple[str, Stage]]:
        for number, stage in enumerate(self.stages):
            for block in range(stage.blocks):
                yield f"layers.{number}.blocks.{block}" if len(self.stages) > 1 else f"blocks.{block}", stage

    def fields(self) -> dict[str, Any]:
        """The fields that enter the fingerprint, as plain values."""
        return {**asdict(self), "input_size": list(self.input_size), "stages": [_plain(s) for s in self.stages]}

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> BackboneFacts:
        """The inverse of `fields`, from the field `backbone` of a cache's spec."""
        stages = tuple(Stage(int(s["blocks"]), int(s["width"]), _pair(s["grid"])) for s in values["stages"])
        return cls(**{**values, "input_size": _pair(values["input_size"]), "stages": stages})


def _plain(stage: Stage) -> dict[str, Any]:
    return {"blocks": stage.blocks, "width": stage.width, "grid": list(stage.grid)}


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def stage_index(tap: str) -> int:
    """Number of the stage in which a tap lies: 2 for `layers.2.blocks.5`, 0 for `blocks.5`."""
    return int(tap.split(".")[1]) if tap.startswith("layers.") else 0


def grid_of(backbone: Mapping[str, Any], tap: str) -> tuple[int, int]:
    """Rows and columns of a tap's tokens, from the field `backbone` of a cache's spec; (0, 0) where it says nothing."""
    stages, number = backbone.get("stages", ()), stage_index(tap)
    if number >= len(stages):
        return 0, 0
    rows, columns = stages[number]["grid"]
    return int(rows), int(columns)


class Backbone(Protocol):
    """A loaded, frozen backbone."""

    @property
    def weights_sha256(self) -> str:
        """Hash of the tensors, whatever file they came from."""

    @property
    def device(self) -> str:
        """What it runs on, such as `cpu` or `cuda:0 NVIDIA H100`."""

    def features(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Tokens of every wanted tap: raw block outputs, prefix tokens included.

        Args:
            batch: visual: uint8 [B, H, W, 3], RGB; audio: int16 [B, W * S], mono: W segments (`window_segments`) of S
                samples, one after the other.

        Returns:
            float32 [B * W, N, C] by tap name: one row for each segment (W is 1 for a visual backbone).
        """


class Family(Protocol):
    """One implementation: how to know and how to load its models. Register it in `avpipe.stages.backbones`."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Packages that decide its results: their versions are provenance of each clip."""

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts of the chosen model, or None where it is not of this family. Must not import torch."""

    def names(self) -> list[str]:
        """Names of the models it knows."""

    def tags(self, model: str) -> tuple[str, ...]:
        """Pretrained weights of a model that a hub has, by name, the usual first; empty where there are none."""

    def check_weights(self, choice: BackboneChoice, facts: BackboneFacts) -> None:
        """Refuses, within seconds, weights that are known to be lacking; builds and downloads nothing.

        Raises:
            UsageError: what was given is no weights file.
            EnvironmentLacking: pretrained weights cannot be had here.
        """

    def load(
        self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str, compiled: bool = False
    ) -> Backbone:
        """Loads the weights.

        Args:
            choice: the backbone asked for.
            facts: what `facts` said of it.
            taps: blocks whose outputs are wanted; nothing behind the last of them is run.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            compiled: whether it goes through `torch.compile`.

        Raises:
            UsageError: the file does not fit the model.
            EnvironmentLacking: pretrained weights cannot be had here.
        """

    def trunk(self, choice: BackboneChoice, facts: BackboneFacts, first: str, last: str, device: str) -> Trunk:
        """Loads blocks `first` to `last`, to be run one by one with gradients; see `trunk.Trunk`.

        Raises:
            UsageError: the family cannot be run so, or the file does not fit the model.
            EnvironmentLacking: pretrained weights cannot be had here.
        """
