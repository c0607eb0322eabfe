"""The backbones of one extraction: loaded once, and what they make of a clip.

Shapes: T segments of a clip, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache.layout import array_name
from avpipe.pipeline.errors import CacheMismatch, EnvironmentLacking
from avpipe.stages import backbones, spins
from avpipe.stages.job import ExtractJob
from avpipe.stages.statistics import statistics_name, token_statistics

_version = cache(version)  # which reads a file each time, and is asked for every clip
RawTokens = dict[tuple[str, str], npt.NDArray[np.float32]]
"""Tokens as a backbone gives them, `[T, N, C]` by modality and tap."""


class JobBackbones:
    """Loads each backbone of a job once, on first use."""

    def __init__(self, job: ExtractJob) -> None:
        spins.keep_short()
        self._job = job
        self._backbones: dict[str, backbones.Backbone] = {}

    def backbone(self, modality: str) -> backbones.Backbone:
        """The loaded backbone of a modality."""
        if modality not in self._backbones:
            job = self._job.modalities[modality]
            run = self._job
            self._backbones[modality] = backbones.load(job.choice, job.facts, job.taps, run.device, run.compiled)
        return self._backbones[modality]

    def weights(self) -> dict[str, str]:
        """Loads every backbone: sha256 of their weights by modality.

        Raises:
            UsageError: a weights file cannot be used.
            EnvironmentLacking: weights cannot be had here; what is lacking for each modality is said at once, before
                any is built or downloaded.
        """
        lacking = []
        for job in self._job.modalities.values():
            try:
                backbones.check_weights(job.choice, job.facts)
            except EnvironmentLacking as error:
                lacking.append(str(error))
        if lacking:
            tiny = "To try things out, take the tiny ones that ship with avpipe: --visual test_vit --audio test_vit"
            raise EnvironmentLacking("\n".join([*lacking, f"{tiny} --weights demo"]))
        return {modality: self.backbone(modality).weights_sha256 for modality in self._job.modalities}

    def check_weights(self, expected: Mapping[str, str]) -> None:
        """Raises `CacheMismatch` where the weights loaded here (sha256 by modality) are not those of the cache."""
        for modality, sha256 in expected.items():
            found = self.backbone(modality).weights_sha256
            if found != sha256:
                given = self._job.modalities[modality].choice.weights
                raise CacheMismatch(
                    f"{modality} weights {given!r} hash to {found[:12]} on this worker, the cache was begun with "
                    f"{sha256[:12]}: give every worker the same weights and versions"
                )

    def software(self, modalities: set[str]) -> dict[str, str]:
        """What computed the tokens, and on what; provenance, not fingerprint."""
        jobs = self._job.modalities
        names = sorted({name for modality in modalities for name in backbones.libraries_of(jobs[modality].facts)})
        devices = {f"{modality} device": self.backbone(modality).device for modality in modalities}
        compiled = {"torch.compile": "on"} if self._job.compiled else {}
        return {name: _version(name) for name in names} | devices | compiled

    def tokens(self, media: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Features of one clip by array name: tokens `[T, N, C]` in the storage type, and their statistics.

        Args:
            media: frames and samples by modality, as `ClipMedia.values`.
        """
        return self.encode(self.features(media))

    def features(self, media: Mapping[str, npt.NDArray[Any]]) -> RawTokens:
        """What the backbones make of one clip; `media` as in `tokens`."""
        found: RawTokens = {}
        for modality, inputs in media.items():
            job = self._job.modalities[modality]
            made = in_batches(self.backbone(modality), inputs, self._job.batch, job.facts.window_segments)
            found |= {(modality, tap): made[tap] for tap in job.taps}
        return found

    def encode(self, tokens: Mapping[tuple[str, str], npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """What is stored of the backbones' tokens, by array name."""
        found = {}
        for (modality, tap), made in tokens.items():
            with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the writer refuses by name
                values = made.astype(self._job.dtype)
            name = array_name(modality, tap, self._job.dtype)
            found[name] = values
            if name in self._job.statistics:
                found[statistics_name(name)] = token_statistics(values)
        return found


def in_batches(
    backbone: backbones.Backbone, inputs: npt.NDArray[Any], batch: int, window: int = 1
) -> dict[str, npt.NDArray[np.float32]]:
    """Tokens of a clip, in batches of one size: padded with zeros, because results may depend on the size.

    Args:
        backbone: the loaded backbone.
        inputs: frames or samples of T segments, `[T, ...]`.
        batch: segments in a batch; rounded down to whole windows, at least one.
        window: segments that the backbone takes at once, side by side.

    Returns:
        float32 `[T, N, C]` by tap.
    """
    size, pieces = max(1, batch // window) * window, []
    for start in range(0, len(inputs), size):
        piece = inputs[start : start + size]
        padded = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
        windows = padded if window == 1 else padded.reshape(size // window, -1)
        pieces.append({tap: tokens[: len(piece)] for tap, tokens in backbone.features(windows).items()})
    return {tap: np.concatenate([piece[tap] for piece in pieces]) for tap in pieces[0]}
