"""A numpy stand-in for a backbone: fixed random projections of local means. It imports no torch.

It exists so that the data engine (plans, commits, kills, clusters) can be proved in seconds. Its features are honest
functions of the media, but no model: it must be asked for by name (`--visual stub --audio stub --weights random:0`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones.contract import Backbone, BackboneChoice, BackboneFacts, Stage

if TYPE_CHECKING:
    from avpipe.stages.backbones.trunk import Trunk

WIDTH, DEPTH, SIDE = 16, 4, 4
IMAGE_SIZE = 32


class StubFamily:
    """The family of the one model `stub`."""

    libraries = ("numpy", "pillow")

    def names(self) -> list[str]:
        """The one name."""
        return ["stub"]

    def tags(self, model: str) -> tuple[str, ...]:
        """None: its weights are drawn."""
        return ()

    def facts(self, choice: BackboneChoice, timeline: Timeline) -> BackboneFacts | None:
        """Facts of the stub: 4 blocks of 16 tokens with 16 channels."""
        if choice.model != "stub":
            return None
        if choice.seed is None:
            raise UsageError("the model `stub` has random weights only: give --weights random:SEED")
        side = choice.image_size or IMAGE_SIZE
        size = (side, side) if choice.modality == "visual" else (timeline.samples_per_segment, 1)
        stage = Stage(DEPTH, WIDTH, (SIDE, SIDE))
        rate = timeline.sample_rate if choice.modality == "audio" else None
        return BackboneFacts("stub", "stub", choice.modality, (stage,), 0, size, sample_rate=rate)

    def check_weights(self, choice: BackboneChoice, facts: BackboneFacts) -> None:
        """Nothing can be lacking."""

    def load(
        self, choice: BackboneChoice, facts: BackboneFacts, taps: tuple[str, ...], device: str, compiled: bool = False
    ) -> Backbone:
        """Draws the projections."""
        assert choice.seed is not None
        return _Stub(choice.seed, taps)

    def trunk(self, choice: BackboneChoice, facts: BackboneFacts, first: str, last: str, device: str) -> Trunk:
        """It has no blocks that follow one another."""
        raise UsageError("the model `stub` cannot be run block by block: extract with another backbone")


class _Stub:
    def __init__(self, seed: int, taps: tuple[str, ...]) -> None:
        rng = np.random.default_rng(seed)
        self._weights = {f"blocks.{i}": rng.standard_normal((3, WIDTH), dtype=np.float32) for i in range(DEPTH)}
        self._taps = taps

    @property
    def weights_sha256(self) -> str:
        """Hash of all projections."""
        return hashlib.sha256(b"".join(self._weights[name].tobytes() for name in sorted(self._weights))).hexdigest()

    @property
    def device(self) -> str:
        """Always the CPU."""
        return "cpu"

    def features(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Means, deviations and ranges of 16 pieces of each input, projected once per block."""
        pieces = _pieces(batch.astype(np.float32) / (255.0 if batch.dtype == np.uint8 else 32768.0))
        facts = np.stack([pieces.mean(-1), pieces.std(-1), pieces.max(-1)], axis=-1)  # [B, N, 3]
        return {tap: np.tanh(facts @ self._weights[tap]) for tap in self._taps}


def _pieces(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cuts frames [B, H, W, 3] into a 4 x 4 grid, samples [B, S] into 16 stretches: [B, 16, values]."""
    if batch.ndim == 2:
        usable = batch.shape[1] // (SIDE * SIDE) * SIDE * SIDE
        return batch[:, :usable].reshape(len(batch), SIDE * SIDE, -1)
    height, width = (n // SIDE for n in batch.shape[1:3])
    grid = batch[:, : height * SIDE, : width * SIDE].reshape(len(batch), SIDE, height, SIDE, width, 3)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(len(batch), SIDE * SIDE, -1)
