"""The import of released features into a cache: safe to kill and to run again, like an extraction.

    sources -> taps -> open or create the cache -> declare -> plan units -> write what is pending -> summary

Nothing here imports torch, and h5py only where an h5 file is opened.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline import plan, progress, quarantine_table
from avpipe.pipeline.cache import Cache, CacheWriter, Plan, Quarantined, is_cache, open_cache
from avpipe.pipeline.cache.compact import compact, wanted
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.planner import ClipRequest, nothing_left
from avpipe.pipeline.cache_import.taps import ImportedTap, SourceRequest, open_taps
from avpipe.pipeline.cache_import.writing import UnitImporter
from avpipe.pipeline.datasets import longest_clip
from avpipe.pipeline.datasets.origin import origin_of, refuse_other
from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.interrupt import Interrupt
from avpipe.pipeline.manifest import Dataset

MOST_UNIT_ROWS = 2048
"""Rows of a unit of a new cache: features that are imported later may be much larger than the first."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes:
        cache: folder of the cache.
        arrays: the arrays asked for.
        clips: clips of the dataset that have all of them now.
        imported: of these, imported by this run.
        left: clips still to do, after an interruption.
        quarantined: clips whose features cannot be used, with reason and hint.
        notes: what is odd about features that were imported by this run.
        seconds: wall time of this run.
    """

    cache: Path
    arrays: tuple[str, ...]
    clips: int
    imported: int
    left: int
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]
    seconds: float


def import_features(
    dataset: Dataset,
    cache: Path,
    sources: Sequence[SourceRequest],
    *,
    axes: Sequence[str] = (),
    dtype: str = "float16",
    unit_segments: int | None = None,
) -> ImportSummary:
    """Imports what a cache lacks of some sources.

    Args:
        dataset: its clips are imported.
        cache: folder of the cache, new or one that was imported into before.
        sources: where the features are.
        axes: `NAME=AXES` or `AXES`, for sources whose shape does not tell.
        dtype: storage type, `float16` or `float32`.
        unit_segments: rows of one unit of a new cache; None plans them.

    Raises:
        UsageError: a source cannot be used, or a value is beyond float16.
        CacheMismatch: the cache holds other features: extracted ones, or of another shape or timeline.
    """
    begun = time.monotonic()
    if is_cache(cache):
        refuse_other(cache, open_cache(cache).dataset, dataset.name, dataset.root)
    with ExitStack() as stack:
        job = _Import(dataset, cache, sources, open_taps(stack, dataset, sources, axes, dtype))
        left = 0
        if not job.lacks_nothing():
            job.create(unit_segments)
            with Interrupt() as interrupt:
                left = job.run(interrupt)
            layout = Layout(cache)
            if wanted(ledger := Ledger(layout), ledger.compaction):
                compact(layout, ledger)
            quarantine_table.keep(ledger)
        return job.summary(left, begun)


class _Import:
    """One import under way."""

    def __init__(
        self, dataset: Dataset, cache: Path, requests: Sequence[SourceRequest], taps: Sequence[ImportedTap]
    ) -> None:
        self.dataset, self.cache, self.requests = dataset, cache, requests
        self.arrays = [tap.array for tap in taps]
        self.modalities = sorted({array.modality for array in self.arrays})
        self.signatures = {
            tap.array.name: {clip.id: tap.source.signature(clip.id) for clip in dataset.clips} for tap in taps
        }
        self.clips: list[ClipRequest] = [
            (clip.id, clip.segments, ",".join(known[clip.id] for known in self.signatures.values()))
            for clip in dataset.clips
        ]
        self.units = UnitImporter({tap.array.name: tap for tap in taps}, self.signatures)
        # What all taps of an imported modality have in common.
        self.fields: dict[str, Any] = {"imported": True, "segment_seconds": dataset.timeline.segment_seconds}

    def lacks_nothing(self) -> bool:
        """Whether there is nothing to do: decided from the ledger alone, since the cache may be read-only."""
        if not is_cache(self.cache):
            return False
        ledger = Ledger(Layout(self.cache))
        fields = dict.fromkeys(self.modalities, self.fields)
        planned = nothing_left(ledger, fields, self.clips, self.arrays, retry=False)
        if planned is None:
            return False
        _tell_held_back(planned)
        with suppress(EnvironmentLacking):  # finishes what dead writers left, where that is possible
            CacheWriter.open(self.cache).close()
        return True

    def create(self, unit_segments: int | None) -> None:
        """Makes the cache where there is none."""
        if is_cache(self.cache):
            return
        if unit_segments is None:
            segments, row_bytes = [clip[1] for clip in self.clips], sum(array.row_bytes for array in self.arrays)
            longest = max(*segments, longest_clip(self.dataset.name))  # a subset that comes later must fit
            unit_segments = max(longest, min(MOST_UNIT_ROWS, plan.unit_rows(segments, row_bytes, None)))
        CacheWriter.create(self.cache, dataset=origin_of(self.dataset), unit_rows=unit_segments).close()

    def run(self, interrupt: Interrupt) -> int:
        """Plans and writes; once more where another process has committed some units, perhaps with fewer clips.

        Returns:
            how many clips are left.
        """
        with CacheWriter.open(self.cache) as writer:
            for modality in self.modalities:
                asked = {r.name: str(r.path.resolve()) for r in self.requests if r.modality == modality}
                writer.declare(modality, self.fields, {"imported from": asked})
            planned = writer.plan(self.clips, self.arrays)
            _tell_held_back(planned)
            defer = True  # once; what is held at the end is done here as well, which costs work and no byte
            while planned.pending:
                if self._round(writer, planned, interrupt, defer):
                    break
                before, planned = planned, writer.plan(self.clips, self.arrays)
                if interrupt.asked() or (planned.pending == before.pending and not defer):
                    return sum(len(work.clips) for work in planned.pending)
                defer = False
        return 0

    def _round(self, writer: CacheWriter, planned: Plan, interrupt: Interrupt, defer: bool) -> bool:
        """Whether all that is pending was committed by this process."""
        total, won = planned.done + sum(len(work.clips) for work in planned.pending), True
        with progress.task("import", total, "clips", planned.done) as shown:
            for work in planned.pending:
                won &= not interrupt.asked() and self.units.run(writer, work, shown.advance, defer=defer)
        return won

    def summary(self, left: int, begun: float) -> ImportSummary:
        """What was done; the cache is opened anew."""
        names, ours = tuple(self.signatures), {clip[0] for clip in self.clips}
        found = open_cache(self.cache)
        self._tell_changed(found)
        return ImportSummary(
            cache=self.cache,
            arrays=names,
            clips=len(ours & found.clips(names).keys()),
            imported=self.units.imported,
            left=left,
            quarantined=tuple(entry for entry in found.quarantined() if entry.clip in ours),
            notes=tuple(self.units.notes),
            seconds=time.monotonic() - begun,
        )

    def _tell_changed(self, found: Cache) -> None:
        """Says which files are not those that were imported: sizes and times are compared, not bytes."""
        held, changed = found.clips(self.signatures), set()
        for name, signatures in self.signatures.items():
            for clip in held.keys() & signatures.keys():
                if signatures[clip] and signatures[clip] not in held[clip].provenance.get(name, ""):
                    changed.add(clip)
        if changed:
            progress.say(
                f"the files of {len(changed)} imported clips have changed since, such as {min(changed)!r}: the cache "
                "keeps what it has; import into another --cache to have them anew"
            )


def _tell_held_back(planned: Plan) -> None:
    """Says which clips are left as they are."""
    if planned.held_back:
        clip, arrays = min(planned.held_back.items())
        progress.say(
            f"{len(planned.held_back)} clips lack some of these features and keep what they have, such as {clip!r}: "
            "they are imported anew only when all their features are asked for at once "
            f"({', '.join(arrays)}), or into another --cache"
        )
