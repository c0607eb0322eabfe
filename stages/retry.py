"""Quarantined clips tried again, with what the cache itself says of its dataset, backbones, layers and settings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from avpipe.pipeline.cache import Cache, open_cache
from avpipe.pipeline.cache.records import Quarantined
from avpipe.pipeline.datasets import folder, names, origin, own
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.limits import DEADLINE_SECONDS, MEMORY_LIMIT_BYTES
from avpipe.pipeline.media.readers import READERS
from avpipe.stages.backbones import BackboneChoice
from avpipe.stages.extract import extract
from avpipe.stages.job import ExtractJob, resolve
from avpipe.stages.taps import USUAL_CODEC, bare, codec_of, is_tap

USUAL_DECODER = "decord"
Outcome = Literal["cached", "quarantined", "gone", "left"]


@dataclass(frozen=True)
class Retried:
    """What became of a clip.

    Attributes:
        clip: the clip's id.
        outcome: `cached`; `quarantined`, as before or anew; `gone`, not tried because the dataset does not have it any
            more; `left`, after an interruption.
        stage, reason, hint: why it is not cached.
        attempts: how often it has failed by now; 0 where it is cached.
    """

    clip: str
    outcome: Outcome
    stage: str = ""
    reason: str = ""
    hint: str = ""
    attempts: int = 0


@dataclass(frozen=True)
class RetrySummary:
    """What a retry did.

    Attributes:
        cache: folder of the cache.
        clips: what became of each clip, in the order asked for.
        seconds: wall time.
    """

    cache: Path
    clips: tuple[Retried, ...]
    seconds: float

    def count(self, outcome: Outcome) -> int:
        """How many clips ended so."""
        return sum(clip.outcome == outcome for clip in self.clips)


def retry(
    path: Path,
    clips: Sequence[str],
    *,
    name: str | None = None,
    root: Path | None = None,
    weights: Mapping[str, str] | None = None,
    workers: int = 1,
    decoder: str | None = None,
    device: str = "auto",
    deadline_seconds: float = DEADLINE_SECONDS,
    decoders: int = 0,
    decode_memory_bytes: int | None = MEMORY_LIMIT_BYTES,
) -> RetrySummary:
    """Extracts quarantined clips, and no others, into every array that the cache has of its backbones.

    Args:
        path: folder of the cache.
        clips: ids of quarantined clips. One that is not quarantined any more is not tried.
        name: the dataset, or the subset, that they are of; None: as the cache notes it.
        root: its folder; None: as the cache notes it.
        weights: modality -> weights, where they lie elsewhere now.
        workers: processes.
        decoder: of video files; None: the one that the cache's clips were decoded with.
        device, deadline_seconds, decoders, decode_memory_bytes: see `ExtractJob`.

    Raises:
        UsageError: the cache does not say what it was made with; the dataset is another, or not found.
        CacheMismatch: weights or versions here give other features than the cache's.
    """
    begun = time.monotonic()
    cache = open_cache(path)
    clips = tuple(dict.fromkeys(clips))
    before = {entry.clip: entry for entry in cache.quarantined()}
    dataset = _dataset(cache, name, root, set(clips))
    there = {clip.id: clip for clip in dataset.clips}
    left = [clip for clip in clips if clip in there and clip in before]
    interrupted = False
    options = {
        "decoder": decoder or _usual_decoder(cache),
        "device": device,
        "deadline_seconds": deadline_seconds,
        "decoders": decoders,
        "decode_memory_bytes": decode_memory_bytes,
    }
    for job in _jobs(cache, dataset, weights or {}, options):
        if not left or interrupted:
            break
        some = replace(dataset, clips=tuple(there[clip] for clip in left))
        interrupted = extract(some, job, workers=workers, retry=True).left > 0
        after = {entry.clip: entry for entry in open_cache(path).quarantined()}
        left = [clip for clip in left if clip not in after or after[clip].attempts == before[clip].attempts]
    after = {entry.clip: entry for entry in open_cache(path).quarantined()}
    found = [_retried(clip, clip in there, before.get(clip), after.get(clip), interrupted) for clip in clips]
    return RetrySummary(path, tuple(found), time.monotonic() - begun)


def _retried(
    clip: str, there: bool, before: Quarantined | None, after: Quarantined | None, interrupted: bool
) -> Retried:
    if after is None:  # by this retry, or by somebody else's
        return Retried(clip, "cached")
    if not there:
        what = f"clip {clip!r} failed before, and the dataset has it no more"
        return Retried(clip, "gone", "manifest", what, "restore its annotation rows, or leave it", after.attempts)
    tried = before is None or after.attempts != before.attempts
    outcome: Outcome = "left" if interrupted and not tried else "quarantined"
    return Retried(clip, outcome, after.stage, after.reason, after.hint, after.attempts)


def _dataset(cache: Cache, name: str | None, root: Path | None, wanted: set[str]) -> Dataset:
    """The dataset of the cache; where it was begun with one subset and has others by now, all of them."""
    known = cache.dataset
    meant = name or str(known.get("name", ""))
    # A name that the cache notes is that of a table in its folder, and never of one that lies here by chance.
    place = origin.folder_meant(meant, root, known) if name else root or origin.known_folder(known)
    if place is None and known.get("root"):
        raise UsageError(
            f"the data that {cache.path} was made from are not at {known['root']} any more: say where they are with "
            "--root"
        )
    origin.refuse_other(cache.path, known, meant, place)
    held = {clip: rows.segments for clip, rows in cache.clips(()).items()}
    found = origin.read_again(meant, place, known, segments=held)
    whole = meant if name or own.is_own(meant) else folder(meant)
    if whole != meant and whole in names() and not wanted <= {clip.id for clip in found.clips}:
        return origin.read_again(whole, place, known, segments=held)
    return found


def _jobs(cache: Cache, dataset: Dataset, weights: Mapping[str, str], options: Mapping[str, Any]) -> list[ExtractJob]:
    """The extractions that made the cache: one, unless layers are stored in several types or batches differ.

    The plainest type comes first: the frames and samples that it stores are what the others are made from.
    """
    specs = {modality: spec for modality, spec in cache.specs.items() if not spec.imported}
    if not specs:
        raise UsageError(
            f"cache {cache.path} holds imported features: mend the files and run `avpipe cache import` again"
        )
    if vague := [modality for modality, spec in specs.items() if "model" not in spec.request]:
        raise UsageError(
            f"cache {cache.path} does not say what its {vague[0]} features were made with: run the `avpipe extract` "
            "command that made it, with --retry"
        )
    taps = [array for array in cache.arrays.values() if array.modality in specs and is_tap(array, cache.arrays)]
    compiled = any("torch.compile" in rows.provenance for rows in cache.clips(()).values())
    jobs = []
    for codec in sorted({codec_of(array) for array in taps}, key=lambda codec: (codec != USUAL_CODEC, codec)):
        layers: dict[int, dict[str, list[str]]] = {}
        for array in taps:
            if codec_of(array) == codec:
                batch = int(specs[array.modality].fields["batch"])
                layers.setdefault(batch, {}).setdefault(array.modality, []).append(bare(array.tap))
        for batch, by_modality in sorted(layers.items()):
            choices = {modality: BackboneChoice.from_request(specs[modality].request) for modality in by_modality}
            moved = {m: replace(choices[m], weights=place) for m, place in weights.items() if m in choices}
            named = {modality: ",".join(names) for modality, names in by_modality.items()}
            made: dict[str, Any] = {"layers": named, "dtype": codec, "batch": batch, "compiled": compiled}
            jobs.append(resolve(dataset, choices | moved, cache=cache.path, **made, **options))
    return jobs


def _usual_decoder(cache: Cache) -> str:
    """The decoder that was asked for when the cache was made, as far as its clips tell."""
    told = Counter(rows.provenance.get("frames", "").partition(" ")[0] for rows in cache.clips(()).values())
    usual = [name for name, _ in told.most_common() if name in READERS]
    return USUAL_DECODER if USUAL_DECODER in usual or not usual else usual[0]
