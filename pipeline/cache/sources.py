"""From a row of an array to the open shard that holds it, and what to say where there is none."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avpipe.pipeline.cache.files import FileAccess, Shard, ShardDamaged, run_lengths
from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.open_shards import OpenShards
from avpipe.pipeline.cache.records import CommittedFile
from avpipe.pipeline.errors import CorruptionFound, UsageError


@dataclass(eq=False)
class Damage(Exception):
    """A shard that cannot be read as it was committed.

    Attributes:
        array: its array.
        unit: its unit.
        file: what the ledger said of it.
        fault: what is wrong.
        replaced: another file has taken the place of the one that was open.
    """

    array: ArraySpec
    unit: int
    file: CommittedFile
    fault: ShardDamaged
    replaced: bool = False


class Sources:
    """The shards of a cache. Safe to share between threads; after a fork the child begins with fresh locks.

    Args:
        ledger: the cache's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.begin_anew()

    def begin_anew_in_child(self) -> None:
        """Begins anew where this process was forked off the one that opened the shards: its locks may be taken."""
        if self._process != os.getpid():
            self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets what is open."""
        self._lock = threading.Lock()
        self._shards = OpenShards()
        self._known: dict[tuple[str, int], tuple[np.ndarray, CommittedFile]] = {}
        self._process = os.getpid()  # last: another thread of a child that sees it finds all the rest fresh

    def shard(self, array: ArraySpec, unit: int, row: int, count: int, access: FileAccess) -> Shard:
        """The shard that holds some rows.

        Args:
            array: the array.
            unit: number of the unit.
            row: the first row, within the unit.
            count: number of rows.
            access: how to read the file.

        Raises:
            UsageError: no committed clip owns one of the rows in this array.
            Damage: the file is not what was committed.
        """
        reach, file = self._known.get((array.name, unit)) or self._look_up(array.name, unit)
        if file is None or reach[row] < count:
            raise self._refusal(array, unit, row + int(reach[row]))
        try:
            return self._shards.get(self._ledger.layout, file, array, unit, self._ledger.unit_rows, access)
        except ShardDamaged as fault:
            raise Damage(array, unit, file, fault) from fault

    def repaired(self, damage: Damage) -> bool:
        """Whether a repair of a damaged shard has been committed; looks for new records, and lets go of the shard."""
        with self._lock:
            self._ledger.refresh_unit(damage.unit)
            self._known.clear()
            self._shards.drop(damage.array, damage.unit)
            return self._ledger.current(damage.unit, damage.array.name) != damage.file

    def corruption(self, damage: Damage) -> CorruptionFound:
        """The error that names clip, tap and shard."""
        array, unit, row = damage.array, damage.unit, damage.fault.row
        clip = self._clip_at(unit, row) if row is not None else None
        clips = [clip] if clip else list(dict.fromkeys(c.id for c, _ in self._ledger.living(unit)))
        shown = f"{', '.join(map(repr, clips[:4]))}{', ...' if clips[4:] else ''}"
        return CorruptionFound(
            f"clip{'s' if len(clips) > 1 else ''} {shown}, {array.name}: shard {self._path(damage)} is damaged: "
            f"{damage.fault}; run `avpipe cache verify --cache {self._ledger.layout.root}` to see all that is damaged"
        )

    def _path(self, damage: Damage) -> Path:
        return self._ledger.layout.root / damage.file.path

    def _look_up(self, array: str, unit: int) -> tuple[np.ndarray, CommittedFile | None]:
        """How many rows, from each row of a unit on, committed clips own in an array; and its file."""
        owned = np.zeros(self._ledger.unit_rows, dtype=bool)
        for clip in self._ledger.clips_in(unit, array):
            if self._ledger.home[clip.id] == unit:
                first = clip.start - unit * self._ledger.unit_rows
                owned[first : first + clip.segments] = True
        file = self._ledger.files(unit).get(array)
        reach = run_lengths(owned[1:] & owned[:-1]) * owned
        if file is not None:
            self._known[array, unit] = reach, file
        return reach, file

    def _refusal(self, array: ArraySpec, unit: int, row: int) -> UsageError:
        clip = self._clip_at(unit, row)
        what = f"clip {clip!r} is not complete in it; `avpipe extract` adds it" if clip else "no committed clip owns it"
        return UsageError(
            f"row {unit * self._ledger.unit_rows + row} of {array.name} in {self._ledger.layout.root}: {what}"
        )

    def _clip_at(self, unit: int, row: int) -> str | None:
        row += unit * self._ledger.unit_rows
        places = self._ledger.planned.get(unit, {}).items()
        return next(
            (c for c, (start, n) in places if start <= row < start + n and self._ledger.home.get(c) == unit), None
        )
