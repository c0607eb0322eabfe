"""Writing to a cache: create or open it, declare what it is of, plan, and commit units."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from avpipe.pipeline.cache import documents, durable, twins
from avpipe.pipeline.cache.documents import seal
from avpipe.pipeline.cache.layout import FORMAT, ArraySpec, Layout
from avpipe.pipeline.cache.lease import Leases
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.cache.lock import WriterFolder, exclusive
from avpipe.pipeline.cache.planner import ClipRequest, Plan, Sorting, check_request, further_work, pack
from avpipe.pipeline.cache.records import UnitWork
from avpipe.pipeline.cache.recover import recover
from avpipe.pipeline.cache.remaking import Remake
from avpipe.pipeline.cache.rewrite import UnitRepair, repair_unit
from avpipe.pipeline.cache.scan import scan_unit
from avpipe.pipeline.cache.spec import Spec, refuse_difference
from avpipe.pipeline.cache.unit import UnitWriter
from avpipe.pipeline.errors import CacheMismatch, CorruptionFound, EnvironmentLacking, UsageError

if TYPE_CHECKING:
    from typing import Self


class CacheWriter:
    """One writer of a cache. Any number of them, in any number of processes, may write to one cache.

    Made by `create` or `open`. It holds a lock on its folder of temporaries until `close`, or until the process ends.
    """

    def __init__(self, layout: Layout, ledger: Ledger, folder: WriterFolder) -> None:
        self._layout, self._ledger, self._folder = layout, ledger, folder
        self._leases = Leases(layout, folder.name)

    @property
    def path(self) -> Path:
        """Folder of the cache."""
        return self._layout.root

    @property
    def unit_rows(self) -> int:
        """Rows of a unit."""
        return self._ledger.unit_rows

    @property
    def dataset(self) -> Mapping[str, Any]:
        """What the cache is of, as given to `create`."""
        dataset: Mapping[str, Any] = self._ledger.info["dataset"]
        return dataset

    @classmethod
    def create(cls, path: Path | str, *, dataset: Mapping[str, Any], unit_rows: int) -> CacheWriter:
        """Makes a new cache, or opens the one that is there.

        Args:
            path: a folder that is empty, does not exist, or is a cache (whose own `dataset` and `unit_rows` then hold).
            dataset: JSON-ready facts about the data set, its name among them.
            unit_rows: rows (segments) of one unit, the piece of work that is committed as a whole.

        Raises:
            UsageError: the folder holds something else.
            EnvironmentLacking: the folder cannot be written.
        """
        layout = Layout(Path(path))
        if not layout.cache_document.exists():
            if unit_rows < 1:
                raise UsageError(f"a unit of {unit_rows} rows holds nothing")
            _refuse_foreign(layout)
            kept = (layout.arrays, layout.plan, layout.records)
            for folder in (*kept, *map(layout.twin, kept), layout.temporaries):
                durable.make_folder(folder)
        with exclusive(layout.planner_lock):  # so that whoever verifies meanwhile waits until all of it is there
            if not layout.cache_document.exists():
                temporaries = WriterFolder(layout)
                content = {"format": FORMAT, "unit_rows": unit_rows, "created": time.time(), "dataset": dict(dataset)}
                durable.put_if_absent(layout.cache_document, seal(content), temporaries.fresh("cache.json"))
                temporaries.close()
            writer = cls.open(path)
            writer._grow()
        return writer

    @classmethod
    def open(cls, path: Path | str) -> CacheWriter:
        """Opens a cache for writing, and finishes what dead writers left.

        Raises:
            UsageError: there is no cache at `path`.
            CorruptionFound: the ledger is damaged.
            EnvironmentLacking: the folder cannot be written.
        """
        layout = Layout(Path(path))
        ledger = Ledger(layout)
        recover(ledger)
        return cls(layout, ledger, WriterFolder(layout))

    def declare(self, modality: str, fields: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        """States what the features of a modality are made with; the first statement holds for good.

        Args:
            modality: `visual` or `audio`.
            fields: JSON-ready values that decide the bytes: weights, preprocessing, timeline, policies. They are the
                fingerprint.
            request: what the user asked for; stored beside them the first time, not compared.

        Raises:
            CacheMismatch: the cache holds this modality with other fields; lists each difference.
        """
        wanted = Spec.of(modality, fields, request)
        self._ledger.refresh()
        if modality not in self._ledger.specs:
            path = self._layout.spec(modality)
            with exclusive(self._layout.planner_lock):
                durable.put_if_absent(path, seal(wanted.as_json()), self._folder.fresh("spec.json"))
                twins.complete(self._layout, self._folder)
            self._ledger.refresh()
        refuse_difference(self._ledger.specs[modality], wanted, self.path)

    def plan(self, clips: Sequence[ClipRequest], arrays: Sequence[ArraySpec], *, retry: bool = False) -> Plan:
        """Places clips in units, once and for all, and says what is left to do.

        Args:
            clips: (id, number of segments, signature of the media files), in the order in which new ones are packed.
            arrays: arrays wanted of every clip; their modalities have been declared.
            retry: try quarantined clips again even if their files have not changed.

        Returns:
            The work left. Clips of units that are pending keep their rows; units that hold clips already get the arrays
            that they lack, for all clips that they hold.

        Raises:
            UsageError: a clip is longer than a unit, or named twice; no array is wanted.
            CacheMismatch: an array or a clip is there with another shape, type or length.
        """
        check_request(clips, self.unit_rows)
        if not arrays:
            raise UsageError("no array is wanted: name at least one")
        with exclusive(self._layout.planner_lock):
            self._ledger.refresh()
            for array in arrays:
                self._declare_array(array)
            self._ledger.refresh()
            sorting = Sorting(self._ledger, clips, arrays, retry=retry)
            first = self._ledger.units
            units = pack(sorting.new, first_unit=first, unit_rows=self.unit_rows)
            if units:
                placed = [[[clip.id, clip.start, clip.segments] for clip in unit] for unit in units]
                document = seal({"first_unit": first, "units": placed})
                path = self._layout.plan_document(first)
                if not durable.put_if_absent(path, document, self._folder.fresh("plan.json")):
                    raise EnvironmentLacking(
                        f"{path} appeared while its lock was held: file locks do not work on this disk"
                    )
                self._ledger.refresh()
            twins.complete(self._layout, self._folder)
            self._grow()
        new = tuple(UnitWork(first + i, tuple(unit), tuple(arrays)) for i, unit in enumerate(units))
        return Plan(
            pending=sorting.pending() + new,
            done=sorting.done,
            quarantined=tuple(sorting.quarantined),
            changed=tuple(sorting.changed),
            held_back=sorting.held_back,
        )

    def left(self, work: UnitWork) -> UnitWork | None:
        """What others have not committed of a unit's work since it was planned, None where nothing is left."""
        if not self._ledger.refresh_unit(work.unit):
            return work
        left = further_work(self._ledger, work.unit, work.arrays)
        return left if left.clips and left.arrays else None

    def claim(self, unit: int) -> bool:
        """Takes the lease of a unit: whoever holds it does the work, so that others can do something else.

        A lease is advice, not a lock: what is committed is decided by the records alone. It is renewed until `release`
        or `close`, and free for others when this process dies or hangs: if neither `claim` nor `progress` was called
        for 15 minutes, it is not renewed any more. Look at `left` after taking it: its last holder may just have
        committed the unit.

        Returns:
            False where another living writer holds it.

        Raises:
            EnvironmentLacking: the leases cannot be written.
        """
        return self._leases.claim(unit)

    def progress(self) -> None:
        """Says that the work goes on, after each clip, say, so that the leases are kept."""
        self._leases.progress()

    def release(self, unit: int) -> None:
        """Lets go of a unit's lease."""
        self._leases.release(unit)

    def holder(self, unit: int) -> str:
        """Name of the writer that a unit's lease names, "" for none."""
        return self._leases.holder(unit)

    def unit(self, work: UnitWork) -> UnitWriter:
        """A writer of one unit, to be used as a context manager.

        Args:
            work: one of `Plan.pending`, planned by this writer or another.
        """
        return UnitWriter(self._layout, self._ledger, self._folder, work)

    def rewrite(self, unit: int, remake: Remake) -> UnitRepair | None:
        """Looks at a unit and replaces its damaged shards; see `avpipe.pipeline.cache.rewrite.repair_unit`."""
        self._ledger.refresh()
        recover(self._ledger)  # what a record names is in its place before anything takes that place
        scans = scan_unit(self._layout, self._ledger, unit)
        if not any(scan.faults for scan in scans):
            return UnitRepair()
        return repair_unit(self._layout, self._ledger, self._folder, scans, remake)

    def mend_zarr_documents(self) -> list[str]:
        """Writes anew every `zarr.json` that is not what the ledger says; their paths."""
        with exclusive(self._layout.planner_lock):
            self._ledger.refresh()
            return self._grow()

    def close(self) -> None:
        """Lets go of all leases and of the folder of temporaries."""
        self._leases.close()
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _declare_array(self, array: ArraySpec) -> None:
        if array.modality not in self._ledger.specs:
            raise UsageError(f"{array.name}: call declare({array.modality!r}, ...) before planning its arrays")
        stored = self._ledger.arrays.get(array.name)
        if stored is None:
            path = self._layout.array_declaration(array.name)
            durable.put_if_absent(path, seal(array.as_json()), self._folder.fresh("array.json"))
        elif stored != array:
            raise CacheMismatch(
                f"{self.path} holds {array.name} as {stored.dtype} rows of shape {stored.row_shape}, this run makes "
                f"{array.dtype} rows of shape {array.row_shape}: give another directory with --cache"
            )

    def _grow(self) -> list[str]:
        """Makes every `zarr.json` what the ledger says; paths of those that were not. The planner's lock is held."""
        rows, written = self._ledger.units * self.unit_rows, []
        for node, document in documents.expected(
            self._ledger.arrays.values(), rows=rows, unit_rows=self.unit_rows
        ).items():
            path = self._layout.zarr_document(node)
            current = b""
            with suppress(FileNotFoundError):
                current = path.read_bytes()
            if current != document:
                durable.make_folder(path.parent)
                durable.replace(path, document, self._folder.fresh("zarr.json"))
                written.append(str(path))
        return written


def _refuse_foreign(layout: Layout) -> None:
    """A folder that is not empty and no cache is somebody's data, unless it is a cache whose making was interrupted."""
    root = layout.root
    if not root.exists():
        return
    if not root.is_dir():
        raise UsageError(f"{root} is a file: a cache needs a folder")
    with durable.writing(root):
        strange = sorted(path.name for path in root.iterdir() if path.name != "ledger")
    if layout.cache_document.exists():  # somebody else has made this cache meanwhile
        return
    if layout.has_documents():
        raise CorruptionFound(f"{layout.cache_document} is missing, yet {root} is a cache: run `avpipe cache repair`")
    if strange:
        raise UsageError(
            f"{root} is not empty and no cache (it holds {strange[0]!r}): name an empty or new folder with --cache"
        )
