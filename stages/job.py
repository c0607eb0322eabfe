"""One extraction, resolved and picklable: what a worker process must know to extract any unit of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from avpipe.pipeline.cache import ArraySpec, open_cache
from avpipe.pipeline.cache.layout import array_name
from avpipe.pipeline.cache.locate import is_cache
from avpipe.pipeline.cache.spec import Spec, refuse_difference
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.decode import MediaSpec
from avpipe.pipeline.media.limits import MEMORY_LIMIT_BYTES
from avpipe.pipeline.media.policies import Policies
from avpipe.stages.backbones import BackboneChoice, BackboneFacts, facts_of, select_taps
from avpipe.stages.policies import choose_policies
from avpipe.stages.statistics import statistics_name, statistics_spec

STORAGE_DTYPES = ("float16", "float32")
RAW_ARRAYS = {"visual": "visual/frames", "audio": "audio/samples"}
LARGEST_BATCH = 32
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class ModalityJob:
    """One modality of an extraction.

    Attributes:
        choice: the backbone asked for.
        facts: what is known of it without loading it.
        taps: names of the blocks to keep.
    """

    choice: BackboneChoice
    facts: BackboneFacts
    taps: tuple[str, ...]

    def arrays(self, dtype: str) -> list[ArraySpec]:
        """The arrays of the taps."""
        shapes = self.facts.taps
        return [ArraySpec(array_name(self.facts.modality, tap, dtype), shapes[tap], dtype) for tap in self.taps]


@dataclass(frozen=True)
class ExtractJob:
    """A resolved extraction.

    Attributes:
        cache: folder of the cache, absolute: workers have other working folders.
        modalities: jobs by modality, one or both.
        media: how clips are decoded: the media of these modalities alone.
        dtype: storage type of the tokens.
        batch: inputs per backbone call; batches are padded to it, because results may depend on the batch size.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        deadline_seconds: time that decoding one clip may take.
        decoders: processes that decode side by side; 0: as many as suit this machine.
        decode_memory_bytes: data memory that one of them may have, None for no limit.
        statistics: arrays of taps whose tokens' statistics are stored too, see `statistics`.
        compiled: whether the backbones go through `torch.compile`.
    """

    cache: Path
    modalities: dict[str, ModalityJob]
    media: MediaSpec
    dtype: str
    batch: int
    device: str
    deadline_seconds: float
    statistics: frozenset[str] = frozenset()
    compiled: bool = False
    decoders: int = 0
    decode_memory_bytes: int | None = MEMORY_LIMIT_BYTES

    def arrays(self) -> list[ArraySpec]:
        """Every array that the extraction fills: frames, samples and taps of its modalities."""
        timeline = self.media.timeline
        found = []
        if self.media.frame_size is not None:
            found.append(ArraySpec(RAW_ARRAYS["visual"], (*self.media.frame_size, 3), "uint8"))
        if self.media.audio:
            found.append(ArraySpec(RAW_ARRAYS["audio"], (timeline.samples_per_segment,), "int16"))
        for job in self.modalities.values():
            taps = job.arrays(self.dtype)
            found += taps + [statistics_spec(array) for array in taps if array.name in self.statistics]
        return found

    def fields(self, modality: str, weights_sha256: str) -> dict[str, Any]:
        """Everything that decides the values of a modality's tokens: its fingerprint is made of these."""
        return {
            "backbone": self.modalities[modality].facts.fields(),
            "weights": {"sha256": weights_sha256},
            "batch": self.batch,
            "media": self.media.fields()[modality],
        }

    def request(self, modality: str) -> dict[str, Any]:
        """What was asked for, with which an equal request is recognised without loading weights."""
        return self.modalities[modality].choice.request()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says of one backbone; None leaves it to the dataset's default.

    Attributes:
        model: model name.
        weights: `pretrained`, `random:SEED`, a file or a folder; the default is `pretrained` where `model` is given.
        image_size: side of the visual input in pixels.
        front_end, window, precision: as in `BackboneChoice`.
    """

    model: str | None = None
    weights: str | None = None
    image_size: int | None = None
    front_end: str | None = None
    window: str | None = None
    precision: str | None = None


def choose_backbones(dataset: Dataset, wishes: Mapping[str, Wish]) -> dict[str, BackboneChoice]:
    """Backbones by modality: the command line's, else the dataset's defaults.

    Raises:
        UsageError: an unknown model; a name that was given is checked before a default is.
    """
    choices = {}
    for modality in sorted(wishes, key=lambda name: wishes[name].model is None):
        choices[modality] = _choose(dataset, modality, wishes[modality])
        facts_of(choices[modality], dataset.timeline)
    return {modality: choices[modality] for modality in wishes}


def _choose(dataset: Dataset, modality: str, wish: Wish) -> BackboneChoice:
    if wish.model is not None:
        choice = BackboneChoice(modality, wish.model)
    elif (default := dataset.backbones.get(modality)) is None:
        raise UsageError(f"{dataset.name} names no default {modality} backbone: give --{modality} MODEL")
    else:
        choice = BackboneChoice.parse(modality, default)
    given = {each.name: getattr(wish, each.name) for each in fields(wish) if each.name != "model"}
    return replace(choice, **{name: value for name, value in given.items() if value is not None})


def resolve(
    dataset: Dataset,
    choices: dict[str, BackboneChoice],
    *,
    cache: Path,
    layers: str | Mapping[str, str],
    dtype: str,
    decoder: str,
    device: str,
    batch: int | None,
    deadline_seconds: float,
    compiled: bool = False,
    decoders: int = 0,
    decode_memory_bytes: int | None = MEMORY_LIMIT_BYTES,
    policies: Policies | None = None,
) -> ExtractJob:
    """Checks an extraction of the modalities in `choices` against what is known of their backbones; loads nothing.

    The audio backbone decides the sample rate: what it is fed is what is stored.

    Args:
        dataset: clips and timeline.
        choices: backbones by modality.
        layers: which blocks to keep, see `select_taps`; one spec for both modalities, or one for each.
        cache, dtype, decoder, device, deadline_seconds, compiled, decoders, decode_memory_bytes: see `ExtractJob`.
        batch: inputs per backbone call; None: as the cache has it, or one clip.
        policies: what is done where media are short or missing; None: see `choose_policies`.

    Raises:
        UsageError: an unknown model, layer or dtype (the nearest name is offered).
    """
    if dtype not in STORAGE_DTYPES:
        raise unknown_name("dtype", dtype, STORAGE_DTYPES)
    modalities = {}
    for modality, choice in choices.items():
        choice.request()  # names a weights file that is missing before anything is loaded
        facts = facts_of(choice, dataset.timeline)
        spec = layers if isinstance(layers, str) else layers[modality]
        modalities[modality] = ModalityJob(choice, facts, select_taps(spec, list(facts.taps), facts.stage_ends))
    if not dataset.clips:
        raise UsageError(f"{dataset.name} at {dataset.root} has no clips: are its annotation files empty?")
    if not 0 < deadline_seconds < float("inf"):
        raise UsageError(f"a deadline of {deadline_seconds} s: give a number of seconds above 0")
    if DEVICE.fullmatch(device) is None:
        raise UsageError(f"unknown device {device!r}: give auto, cpu, cuda or cuda:N")
    frame_size = modalities["visual"].facts.input_size if "visual" in modalities else None
    rate = modalities["audio"].facts.sample_rate if "audio" in modalities else None
    timeline = replace(dataset.timeline, sample_rate=rate or dataset.timeline.sample_rate)
    return ExtractJob(
        cache=cache.absolute(),
        modalities=modalities,
        media=MediaSpec(
            timeline,
            frame_size,
            audio="audio" in modalities,
            decoder=decoder,
            policies=policies or choose_policies(dataset, cache, modalities),
        ),
        dtype=dtype,
        batch=batch or _usual_batch(dataset, cache),
        device=device,
        deadline_seconds=deadline_seconds,
        statistics=_with_statistics([a.name for job in modalities.values() for a in job.arrays(dtype)], cache),
        compiled=compiled,
        decoders=decoders,
        decode_memory_bytes=decode_memory_bytes,
    )


def refuse_other_settings(job: ExtractJob) -> None:
    """Checks that a job's features may go into its cache, as far as that is known before weights are loaded.

    Everything that is in the fingerprint is compared but the weights' own hash.

    Raises:
        CacheMismatch: names every field that differs, as an extraction does.
    """
    specs = open_cache(job.cache).specs if is_cache(job.cache) else {}
    for modality, stored in ((each, specs[each]) for each in job.modalities if each in specs):
        sha256 = str(stored.fields.get("weights", {}).get("sha256"))
        refuse_difference(stored, Spec.of(modality, job.fields(modality, sha256), job.request(modality)), job.cache)


def _with_statistics(taps: Sequence[str], cache: Path) -> frozenset[str]:
    """Arrays whose statistics are stored: all, but those that a cache from before holds without."""
    held = open_cache(cache).arrays if is_cache(cache) else {}
    return frozenset(name for name in taps if name not in held or statistics_name(name) in held)


def _usual_batch(dataset: Dataset, cache: Path) -> int:
    """The batch of the cache where there is one, else one clip: the batch size can change the last bits of a token."""
    if is_cache(cache):
        for spec in open_cache(cache).specs.values():
            if "batch" in spec.fields:  # imported features have none
                return int(spec.fields["batch"])
    return min(LARGEST_BATCH, max((clip.segments for clip in dataset.clips), default=1))
