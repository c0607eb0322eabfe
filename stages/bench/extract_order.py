"""One extraction that `bench extract` measures, as JSON can say it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.clip_media import decoders_of
from avpipe.stages.job import ExtractJob, resolve

DEADLINE_SECONDS = 600.0
DECODE_MEMORY_BYTES = 4 << 30
"""As `avpipe extract` has it by default."""


@dataclass(frozen=True, slots=True)
class ExtractOrder:
    """What two processes measure: one the whole extraction, one its stages alone.

    Attributes:
        cache: folder of the cache to make.
        clips: fields of `Clip`, paths as text.
        timeline: fields of `Timeline`.
        media: policies that the dataset's files name.
        choices: fields of `BackboneChoice` by modality.
        layers: which blocks to keep.
        batch: segments per backbone call, None: one clip.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        decoder: backend of video frames.
        decoders: processes that decode; 0: as many as suit this machine.
        unit_segments: rows of one unit.
        stored: frames and samples are in the cache before the measurement, so that nothing is decoded in it.
    """

    cache: str
    clips: list[dict[str, Any]]
    timeline: dict[str, Any]
    media: dict[str, str]
    choices: dict[str, dict[str, Any]]
    layers: str
    batch: int | None
    device: str
    decoder: str
    decoders: int
    unit_segments: int
    stored: bool

    def dataset(self) -> Dataset:
        """The clips, without labels."""
        clips = tuple(_clip(fields) for fields in self.clips)
        root = Path(self.cache).parent
        return Dataset("bench", root, "events", (), self._timeline, clips, (), media=self.media)

    def job(self) -> ExtractJob:
        """The extraction that is measured."""
        return self._job(self.layers)

    def first_job(self) -> ExtractJob:
        """The cheapest extraction of the same frames and samples: the backbones' first blocks alone.

        Raises:
            UsageError: `layers` names no other block, so that nothing would be left to measure.
        """
        first = {modality: next(iter(facts_of(c, self._timeline).taps)) for modality, c in self._choices.items()}
        if all(each.taps == (first[modality],) for modality, each in self.job().modalities.items()):
            raise UsageError(
                f"layers {self.layers}: stored frames need layers beyond the first, give more with --layers"
            )
        return self._job(first)

    def as_json(self) -> dict[str, Any]:
        """The fields, JSON-ready."""
        return asdict(self)

    @property
    def _timeline(self) -> Timeline:
        return Timeline(**self.timeline)

    @property
    def _choices(self) -> dict[str, BackboneChoice]:
        return {modality: BackboneChoice(**fields) for modality, fields in self.choices.items()}

    def _job(self, layers: str | Mapping[str, str]) -> ExtractJob:
        job = resolve(
            self.dataset(),
            self._choices,
            cache=Path(self.cache),
            layers=layers,
            dtype="float16",
            decoder=self.decoder,
            device=self.device,
            batch=self.batch,
            deadline_seconds=DEADLINE_SECONDS,
            decoders=self.decoders,
            decode_memory_bytes=DECODE_MEMORY_BYTES,
        )
        decoders = decoders_of(job, clips=len(self.clips))  # as `extract` has it: it takes the runner that is warm
        return replace(job, decoders=decoders)


def clip_fields(clip: Clip) -> dict[str, Any]:
    """Fields of a clip, JSON-ready: paths are absolute and text."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(clip.absolute()), default=str))
    return fields


def _clip(fields: Mapping[str, Any]) -> Clip:
    paths = {name: Path(fields[name]) for name in ("video", "audio") if fields[name] is not None}
    frames = fields["frames"] and tuple(Path(each) for each in fields["frames"])
    sha256 = tuple((Path(path), digest) for path, digest in fields["sha256"])
    return Clip(**{**fields, **paths, "frames": frames, "sha256": sha256})
