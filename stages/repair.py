"""Making damaged features of a cache again: from its own frames and samples where they are sound, else the media."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from avpipe.pipeline import quarantine_table
from avpipe.pipeline.cache import ArraySpec, Cache, open_cache
from avpipe.pipeline.cache.layout import Layout, array_name
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.records import CommittedClip
from avpipe.pipeline.cache.remaking import Remade
from avpipe.pipeline.cache.repair import RepairReport, repair
from avpipe.pipeline.errors import AvpipeError, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import MediaSpec, signature
from avpipe.pipeline.media.limits import DEADLINE_SECONDS
from avpipe.pipeline.media.policies import Policies
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneChoice, facts_of
from avpipe.stages.extract_unit import UnitRunner
from avpipe.stages.job import RAW_ARRAYS, ExtractJob, ModalityJob
from avpipe.stages.policies import policies_in
from avpipe.stages.statistics import is_statistics, tap_of
from avpipe.stages.taps import codec_of, is_tap


def repair_cache(
    path: Path, *, root: Path | None = None, weights: Mapping[str, str] | None = None, device: str = "auto"
) -> RepairReport:
    """Repairs a cache with the backbones that it was made with.

    Args:
        path: folder of the cache.
        root: folder of the dataset, for clips whose frames or samples are damaged; default: where it was then.
        weights: modality -> weights, where they lie elsewhere now.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        CacheMismatch: the weights are not those of the cache.
    """
    makers: list[FeatureMaker] = []

    def remake_for(cache: Path) -> FeatureMaker:
        makers.append(FeatureMaker(open_cache(cache), root, weights or {}, device))
        return makers[0]

    try:
        report = repair(path, remake_for)
        quarantine_table.keep(Ledger(Layout(path)))
        return report
    finally:
        for maker in makers:
            maker.close()


class FeatureMaker:
    """Makes features of a cache's clips again.

    Args:
        cache: the cache.
        root: folder of the dataset, None for where it was extracted from.
        weights: modality -> weights, where they lie elsewhere now.
        device: where the backbones run.
    """

    def __init__(self, cache: Cache, root: Path | None, weights: Mapping[str, str], device: str) -> None:
        self._cache, self._root, self._weights, self._device = cache, root, weights, device
        self._specs = {modality: spec for modality, spec in cache.specs.items() if not spec.imported}
        self._runners: dict[str, UnitRunner] = {}
        self._clips: dict[str, Clip] | None = None

    def __call__(self, clip: CommittedClip, arrays: Collection[str], raw: Mapping[str, npt.NDArray[Any]]) -> Remade:
        """Features of a clip; see `avpipe.pipeline.cache.remaking.Remake`."""
        wanted = [self._cache.arrays[name] for name in sorted(arrays)]
        for array in wanted:
            if array.modality not in self._specs:
                raise InputRejected(
                    f"{array.name} of clip {clip.id!r} was imported: no media give it again",
                    stage="repair",
                    hint="run `avpipe cache import` into a new cache",
                )
        media = {modality: raw[name] for modality, name in RAW_ARRAYS.items() if name in raw}
        provenance: dict[str, str] = {}
        doubt = ""
        lacking = frozenset({array.modality for array in wanted} - media.keys())
        if lacking:
            found, doubt = self._find(clip)
            decoded = self._runner("float16").source.decode(found, lacking)
            media, provenance = media | decoded.values, decoded.provenance
        values = {RAW_ARRAYS[modality]: rows for modality, rows in media.items()}
        taps = [self._tap(array) for array in wanted if array.name not in RAW_ARRAYS.values()]
        for codec in sorted({codec_of(array) for array in taps}):
            modalities = {array.modality for array in taps if codec_of(array) == codec}
            runner = self._runner(codec)
            values |= runner.tokens({modality: media[modality] for modality in sorted(modalities)})
            provenance |= runner.software(modalities)
        return Remade({array.name: values[self._name_when_made(array)] for array in wanted}, provenance, doubt)

    def close(self) -> None:
        """Ends the decoders and lets go of the backbones."""
        for runner in self._runners.values():
            runner.close()

    def _find(self, clip: CommittedClip) -> tuple[Clip, str]:
        """Where a clip's media are, and what speaks against their being those that were cached."""
        if self._clips is None:
            self._clips = self._load_clips()
        found = self._clips.get(clip.id)
        if found is None:
            raise InputRejected(
                f"clip {clip.id!r} is not in the dataset any more", stage="manifest", hint="restore it, then repair"
            )
        lost = [path for path in found.media() if not path.exists()]
        if lost:
            raise InputRejected(f"{lost[0]} is missing", stage="manifest", hint="restore it, then repair")
        if signature(found) == clip.signature:
            return found, ""
        return found, (
            f"{found.media()[0]} does not give what was cached: it has changed since (restore it as it was, or extract "
            "into another --cache)"
        )

    def _load_clips(self) -> dict[str, Clip]:
        from avpipe.pipeline.datasets.origin import read_again

        known = self._cache.dataset
        held = {clip: rows.segments for clip, rows in self._cache.clips().items()}
        try:
            root = self._root or Path(str(known["root"]))
            dataset = read_again(str(known["name"]), root, known, segments=held)
        except AvpipeError as error:
            raise InputRejected(str(error), stage="manifest", hint="name the data's folder with --root") from error
        return {clip.id: clip.absolute() for clip in dataset.clips}

    def _runner(self, codec: str) -> UnitRunner:
        if codec not in self._runners:
            runner = self._runners[codec] = UnitRunner(self._job(codec))
            specs = self._specs
            runner.check_weights({m: specs[m].fields["weights"]["sha256"] for m in specs if self._taps(m, codec)})
        return self._runners[codec]

    def _job(self, codec: str) -> ExtractJob:
        """The extraction that made the cache, as its specs tell it."""
        specs, timeline, arrays = self._specs, self._timeline(), self._cache.arrays
        modalities = {}
        for modality, spec in specs.items():
            asked = {each.name for each in fields(BackboneChoice)}
            choice = BackboneChoice(**{key: value for key, value in spec.request.items() if key in asked})
            if modality in self._weights:
                choice = replace(choice, weights=self._weights[modality])
            modalities[modality] = ModalityJob(choice, facts_of(choice, timeline), self._taps(modality, codec))
        size = modalities["visual"].facts.input_size if "visual" in modalities else None
        return ExtractJob(
            cache=self._cache.path.absolute(),
            modalities=modalities,
            media=MediaSpec(timeline, size, audio="audio" in modalities, policies=Policies(**policies_in(specs))),
            dtype=codec,
            batch=int(next(iter(specs.values())).fields["batch"]),
            device=self._device,
            deadline_seconds=DEADLINE_SECONDS,
            statistics=frozenset(tap_of(a.name) for a in arrays.values() if is_statistics(a, arrays)),
        )

    def _tap(self, array: ArraySpec) -> ArraySpec:
        """The array itself, or the one whose statistics it holds."""
        arrays = self._cache.arrays
        return arrays[tap_of(array.name)] if is_statistics(array, arrays) else array

    def _name_when_made(self, array: ArraySpec) -> str:
        """What a runner calls an array."""
        if not is_tap(array, self._cache.arrays):
            return array.name
        return array_name(array.modality, _plain_tap(array), codec_of(array))

    def _timeline(self) -> Timeline:
        known: dict[str, Any] = {}
        for spec in self._specs.values():
            known |= spec.fields["media"]
        names = ("segment_seconds", "frame_position", "sample_rate")
        return Timeline(**{name: known[name] for name in names if name in known})

    def _taps(self, modality: str, codec: str) -> tuple[str, ...]:
        arrays = [array for array in self._cache.arrays.values() if array.modality == modality]
        taps = [array for array in arrays if is_tap(array, self._cache.arrays)]
        return tuple(_plain_tap(array) for array in taps if codec_of(array) == codec)


def _plain_tap(array: ArraySpec) -> str:
    return array.tap.partition("@")[0]
