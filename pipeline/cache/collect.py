"""Deleting what a cache does not need: files that nothing in its ledger names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.cache import durable
from avpipe.pipeline.cache.documentcheck import strays
from avpipe.pipeline.cache.generations import unfinished
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.ledger_files import refuse
from avpipe.pipeline.cache.links import find_links
from avpipe.pipeline.cache.lock import exclusive
from avpipe.pipeline.cache.recover import left_behind, recover


@dataclass(frozen=True)
class Collected:
    """What garbage collection found.

    Attributes:
        path: folder of the cache.
        deleted: files that were deleted (or would be), relative to the cache.
        bytes: their size.
        superseded_bytes: bytes of rows that a later unit has replaced; they lie beside rows that live, and stay.
    """

    path: str
    deleted: tuple[str, ...]
    bytes: int
    superseded_bytes: int

    def as_json(self) -> dict[str, Any]:
        """JSON-ready members."""
        return dict(vars(self))


def collect(path: Path | str, *, dry_run: bool = False) -> Collected:
    """Deletes temporaries of dead writers and files in the arrays' folders that no record names.

    Only a cache whose ledger is sound is touched: where a document is lost, a file may look like a stray and be none.
    A stray in the place of a planned unit stays, since a writer may be about to put its shard there, which replaces it.
    Links are neither followed nor deleted.

    Args:
        path: folder of the cache.
        dry_run: delete nothing, only say what would be.

    Raises:
        UsageError: there is no cache.
        CorruptionFound: the ledger is damaged; `avpipe cache repair` comes first.
        EnvironmentLacking: something cannot be deleted.
    """
    layout = Layout(Path(path))
    Ledger(layout)  # before a lock file is made where there is no cache
    with exclusive(layout.planner_lock):  # nothing is planned meanwhile, so nobody writes to an unplanned place
        ledger = Ledger(layout, compacted=False)
        planned = {layout.shard(array, unit) for array in ledger.arrays.values() for unit in ledger.planned}
        strange = [file for file in strays(layout, find_links(layout.root), refuse) if file.is_file()]
        found = [*left_behind(ledger), *unfinished(layout), *(file for file in strange if file not in planned)]
        sizes = {file: file.stat().st_size for file in found}
        if not dry_run:
            recover(ledger)
            for file in found:
                durable.remove(file)
    return Collected(
        path=str(layout.root),
        deleted=tuple(sorted(file.relative_to(layout.root).as_posix() for file in sizes)),
        bytes=sum(sizes.values()),
        superseded_bytes=_superseded_bytes(ledger),
    )


def _superseded_bytes(ledger: Ledger) -> int:
    total = 0
    for unit in ledger.records:
        for name in ledger.files(unit):
            rows = sum(clip.segments for clip in ledger.clips_in(unit, name) if ledger.home[clip.id] != unit)
            total += rows * ledger.arrays[name].row_bytes
    return total
