"""Scanning every shard file of a cache, several at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from avpipe.pipeline.cache import content
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.cache.shardcheck import ShardFault, ShardLook, inspect_shard
from avpipe.pipeline.doctor import cores

_UNITS_AHEAD = 4

Owners = dict[int, tuple[str, int]]
"""Row within a unit -> clip and segment."""


@dataclass
class ShardScan:
    """What a look at one shard found.

    Attributes:
        unit: its unit.
        file: its entry in the ledger.
        owners: the rows that it must have.
        look: the file, and everything that is wrong with it.
        elements: clip -> sum of the content elements of its sound rows.
        sound: the rows that are sound.
    """

    unit: int
    file: CommittedFile
    owners: Owners
    look: ShardLook
    elements: dict[str, int] = field(default_factory=dict)
    sound: set[int] = field(default_factory=set)

    @property
    def faults(self) -> list[ShardFault]:
        """Everything that is wrong."""
        return self.look.faults

    @property
    def damaged(self) -> set[int]:
        """The rows that are committed and cannot be read."""
        return self.owners.keys() - self.sound


def owners_of(ledger: Ledger, unit: int, array: str) -> Owners:
    """The rows that clips own in a shard, superseded clips included."""
    base = unit * ledger.unit_rows
    clips = ledger.clips_in(unit, array)
    return {clip.start - base + segment: (clip.id, segment) for clip in clips for segment in range(clip.segments)}


def scan_shard(layout: Layout, ledger: Ledger, unit: int, file: CommittedFile) -> ShardScan:
    """Reads one shard file from end to end."""
    scan = ShardScan(unit, file, owners_of(ledger, unit, file.array), ShardLook(layout.root / file.path))

    def take(row: int, data: memoryview) -> None:
        clip, segment = scan.owners[row]
        element = content.element(clip, file.array, segment, data)
        scan.elements[clip] = (scan.elements.get(clip, 0) + element) % content.MODULUS
        scan.sound.add(row)

    array, owned = ledger.arrays[file.array], frozenset(scan.owners)
    scan.look = inspect_shard(layout, file, array, ledger.unit_rows, owned, take)
    return scan


def scan_unit(layout: Layout, ledger: Ledger, unit: int) -> list[ShardScan]:
    """Reads every shard of one unit."""
    return [scan_shard(layout, ledger, unit, file) for file in ledger.files(unit).values()]


def scan_units(
    layout: Layout, ledger: Ledger, wanted: Callable[[CommittedFile], bool] = lambda file: True
) -> Iterator[tuple[int, list[ShardScan]]]:
    """Scans every unit in turn, its shards side by side.

    Args:
        layout: paths of the cache.
        ledger: says which files there are.
        wanted: which of them to scan.

    Yields:
        The unit and its scans. Hashing and reading let go of Python's lock, so threads use every core.
    """
    units = iter(sorted(ledger.records))
    with ThreadPoolExecutor(cores()) as pool:

        def begin(unit: int) -> tuple[int, list[Future[ShardScan]]]:
            files = [file for file in ledger.files(unit).values() if wanted(file)]
            return unit, [pool.submit(scan_shard, layout, ledger, unit, file) for file in files]

        open_units = deque(begin(unit) for unit in islice(units, _UNITS_AHEAD))
        try:
            while open_units:
                unit, futures = open_units.popleft()
                yield unit, [future.result() for future in futures]
                open_units.extend(begin(unit) for unit in islice(units, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def wrong_sums(ledger: Ledger, unit: int, scans: Iterable[ShardScan]) -> list[str]:
    """Clips whose rows over all arrays of a unit do not sum to what the unit's records say together.

    Args:
        ledger: its ledger.
        unit: the unit.
        scans: a scan of each of its shards, all sound.
    """
    recorded: Counter[str] = Counter()
    for record in ledger.records[unit]:
        for clip in record.clips:
            recorded[clip.id] += clip.content
    found: Counter[str] = Counter()
    for scan in scans:
        found.update(scan.elements)
    return [clip for clip, total in recorded.items() if (found[clip] - total) % content.MODULUS]
