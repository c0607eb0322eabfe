"""What a backbone is to the rest of avpipe: facts known without weights, and a function from media to tapped tokens.

Nothing here imports torch, so plans, dry runs and a run with nothing left to do never pay for it.
Shapes: B batch, N tokens, C channels, H height, W width, S audio samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import demo_weights

MODALITIES = ("visual", "audio")


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone a run asks for, as the user wrote it.

    Attributes:
        modality: `visual` or `audio`.
        model: model name, for timm with or without the tag of its weights (`vit_base_patch16_224.dino`).
        weights: `pretrained` (timm's hub), `random:SEED`, `demo` (the tiny ones that ship with avpipe), or the path of
            a weights file.
        image_size: side of the square input in pixels; None takes the model's own. Visual only.
    """

    modality: str
    model: str
    weights: str = "pretrained"
    image_size: int | None = None

    @classmethod
    def parse(cls, modality: str, value: Mapping[str, Any] | str) -> BackboneChoice:
        """Reads a choice from a dataset's YAML: a model name, or a mapping with this class's fields."""
        options = {"model": value} if isinstance(value, str) else dict(value)
        for key in options:
            if key not in ("model", "weights", "image_size"):
                raise unknown_name(f"key in backbones.{modality}", key, ("model", "weights", "image_size"))
        if "model" not in options:
            raise UsageError(f"backbones.{modality} names no model: {options!r}")
        return cls(modality, **options)

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
        """The choice and, for a file, its size and time: equal requests mean equal weights, without reading them."""
        found: dict[str, Any] = asdict(self)
        if self.weights == demo_weights.KEYWORD:
            return found | {"sha256": demo_weights.record(self.model, self.modality)["sha256"]}
        if self.weights != "pretrained" and self.seed is None:
            path = Path(self.weights)
            if not path.is_file():
                raise UsageError(
                    f"weights file {self.weights!r} for {self.model} does not exist: give a file, "
                    "`pretrained`, `demo`, or `random:SEED`"
                )
            found |= {"weights": str(path.resolve()), "bytes": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
        return found


@dataclass(frozen=True, slots=True)
class BackboneFacts:
    """What is known of a backbone before its weights are loaded.

    Attributes:
        model: architecture name.
        family: name of the implementation that loads it.
        modality: `visual` or `audio`.
        width: channels C of every tap.
        depth: number of blocks.
        prefix_tokens: class and register tokens in front of the patch tokens.
        grid: patch tokens as rows and columns (audio: frequency and time); N = prefix_tokens + rows * columns.
        input_size: visual: frame height and width in pixels; audio: mel bands and frames.
        preprocess: the rest of what turns media into the model's input; enters the fingerprint.
    """

    model: str
    family: str
    modality: str
    width: int
    depth: int
    prefix_tokens: int
    grid: tuple[int, int]
    input_size: tuple[int, int]
    preprocess: dict[str, Any] = field(default_factory=dict)

    @property
    def taps(self) -> dict[str, tuple[int, int]]:
        """Every tap by name, in order of depth, with its row shape (N, C)."""
        tokens = self.prefix_tokens + self.grid[0] * self.grid[1]
        return {f"blocks.{i}": (tokens, self.width) for i in range(self.depth)}

    def fields(self) -> dict[str, Any]:
        """The fields that enter the fingerprint."""
        found = asdict(self)
        return found | {"grid": list(self.grid), "input_size": list(self.input_size)}


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
            batch: visual: uint8 [B, H, W, 3], RGB; audio: int16 [B, S], mono.

        Returns:
            float32 [B, N, C] by tap name.
        """


class Family(Protocol):
    """One implementation: how to know and how to load its models. Register it in `avpipe.stages.backbones`."""

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts of the chosen model, or None where it is not of this family. Must not import torch."""

    def names(self) -> list[str]:
        """Names of the models it knows."""

    def load(self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str) -> Backbone:
        """Loads the weights.

        Raises:
            UsageError: the file does not fit the model.
            EnvironmentLacking: pretrained weights cannot be had here.
        """
