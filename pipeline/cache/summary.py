"""What a cache holds and how far its extraction is, as plain JSON-ready values. Reads the ledger only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from avpipe.pipeline.cache.layout import FORMAT, Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_facts import LedgerFacts
from avpipe.pipeline.cache.records import Record

_RECENT_RECORDS = 50


def summarize(path: Path, ledger: Ledger, content_hash: str) -> dict[str, Any]:
    """The facts that `avpipe cache show` prints.

    Args:
        path: folder of the cache.
        ledger: its ledger.
        content_hash: hash of its content.
    """
    sizes: Counter[str] = Counter()
    shards: Counter[str] = Counter()
    for unit in ledger.records:
        for file in ledger.files(unit).values():
            sizes[file.array] += file.bytes
            shards[file.array] += 1
    rows = ledger.units * ledger.unit_rows
    return {
        "path": str(path),
        "format": FORMAT,
        "dataset": dict(ledger.info["dataset"]),
        "unit_rows": ledger.unit_rows,
        "units": len(ledger.records),
        "clips": len(ledger.home),
        "segments": sum(ledger.planned[unit][clip][1] for clip, unit in ledger.home.items()),
        "quarantined": len(ledger.quarantined()),
        "stand_ins": stand_ins(ledger),
        "arrays": {
            name: {"shape": [rows, *array.row_shape], "dtype": array.dtype, "bytes": sizes[name], "units": shards[name]}
            for name, array in sorted(ledger.arrays.items())
        },
        "bytes": sizes.total(),
        "specs": {name: spec.as_json() for name, spec in sorted(ledger.specs.items())},
        "content_hash": content_hash,
    }


def progress_of(path: Path | str) -> dict[str, Any]:
    """How far a cache's extraction is: the facts that `avpipe status` prints. Changes nothing.

    A clip is done when it is complete in every array of the cache.

    Returns:
        `clips` and `segments` (each `planned`, `done`, `left`, `quarantined`), `units` (`planned`, `committed`),
        `stand_ins` (as the function of that name gives it),
        `segments_per_second` over recent work (None before the first commit), `eta_seconds` (None where unknown),
        `work_seconds` by stage, `updated` (time of the last commit, seconds since 1970, or None).

    Raises:
        UsageError: there is no cache.
        CorruptionFound: the ledger is damaged.
    """
    ledger = Ledger(Layout(Path(path)))
    wanted = frozenset(ledger.arrays)
    clips: Counter[str] = Counter(planned=0, done=0, left=0, quarantined=0)
    segments: Counter[str] = Counter(planned=0, done=0, left=0, quarantined=0)
    quarantined = {entry.clip for entry in ledger.quarantined()}
    for clip, unit in ledger.placement.items():
        length = ledger.planned[unit][clip][1]
        home = ledger.home.get(clip, -1)
        state = "done" if wanted <= ledger.arrays_of(clip, home) else "quarantined" if clip in quarantined else "left"
        for name in ("planned", state):
            clips[name] += 1
            segments[name] += length
    rate = _rate(list(_records(ledger)))
    stages: Counter[str] = Counter()
    for record in _records(ledger):
        stages.update(record.work_seconds)
    left = segments["left"]
    return {
        "path": str(path),
        "dataset": dict(ledger.info["dataset"]),
        "clips": dict(clips),
        "segments": dict(segments),
        "units": {"planned": ledger.units, "committed": len(ledger.records)},
        "stand_ins": stand_ins(ledger),
        "segments_per_second": rate,
        "eta_seconds": left / rate if rate else (0.0 if not left else None),
        "work_seconds": dict(stages),
        "updated": max((record.committed for record in _records(ledger)), default=None),
    }


def stand_ins(ledger: LedgerFacts, clips: Container[str] | None = None) -> dict[str, int]:
    """Committed clips without any real segment of sound or of pictures, by their masks.

    Args:
        ledger: the ledger.
        clips: ids of those that count; None: all.

    Returns:
        `clips`: such clips; each modality of the cache: those that lack it; `nothing_real`: those that lack all of
        theirs.
    """
    found = Counter(clips=0, nothing_real=0)
    for unit in ledger.records:
        for clip, masks in _masks(ledger, unit).items():
            lacking = [modality for modality, mask in masks.items() if "1" not in mask]
            if lacking and (clips is None or clip in clips):
                found.update(["clips", *lacking])
                found["nothing_real"] += len(lacking) == len(masks)
    return dict(found)


def _masks(ledger: LedgerFacts, unit: int) -> dict[str, Mapping[str, str]]:
    """Masks of the clips of a unit by modality, from all of its records."""
    found: dict[str, Mapping[str, str]] = {}
    for clip, _ in ledger.living(unit):
        found[clip.id] = {**clip.masks, **found[clip.id]} if clip.id in found else clip.masks
    return found


def _records(ledger: Ledger) -> Iterable[Record]:
    return (record for records in ledger.records.values() for record in records)


def _rate(records: list[Record]) -> float | None:
    """Segments per second over the last commits, counting the time in which at least one writer worked."""
    recent = sorted(records, key=lambda record: record.committed)[-_RECENT_RECORDS:]
    busy, end = 0.0, float("-inf")
    for record in sorted(recent, key=lambda record: record.began):
        busy += max(0.0, record.committed - max(record.began, end))
        end = max(end, record.committed)
    done = sum(clip.segments for record in recent for clip in record.clips)
    return done / busy if busy > 0 and done else None
