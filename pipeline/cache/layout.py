"""Where everything lies in a cache, and the shape of its arrays. All paths of the cache are made here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.pipeline.errors import UsageError

FORMAT = 1
"""Version of the format on disk."""
PAGE_BYTES = 4096
PAGED_FROM_BYTES = 65_536
"""Chunks of at least this many bytes start on a page; smaller ones are packed, where gaps would cost too much."""
CRC_BYTES = 4
MIB = 1 << 20
INDEX_ENTRY_BYTES = 16

ITEM_BYTES = {
    "uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "float16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
"""Types that an array may have, by their Zarr (and numpy) name."""

PLAIN_CODEC = "float16"
"""The codec whose arrays have the plain name of their tap; all others are called `<tap>@<codec>`."""

_NAME = re.compile(r"[a-z][a-z0-9_]*/[A-Za-z0-9][A-Za-z0-9_.@+-]*", re.ASCII)


def array_name(modality: str, tap: str, codec: str) -> str:
    """Name of the array of a tap in a storage codec, such as `visual/blocks.3` or `visual/blocks.3@float32`."""
    return f"{modality}/{tap}" if codec == PLAIN_CODEC else f"{modality}/{tap}@{codec}"


@dataclass(frozen=True)
class ArraySpec:
    """One array of the cache: a tap, the frames or the audio samples.

    Attributes:
        name: `<modality>/<tap>`, such as `visual/blocks.3`.
        row_shape: shape of one segment, such as `(197, 192)` for N tokens of C channels.
        dtype: numpy's name of the type, little-endian on disk.
    """

    name: str
    row_shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.modality == "ledger":
            raise UsageError(
                f"{self.name!r} is no array name: expected <modality>/<tap> of letters, digits and _ . @ + -"
            )
        if self.dtype not in ITEM_BYTES:
            raise UsageError(f"{self.name}: no storage type {self.dtype!r}; there are {', '.join(ITEM_BYTES)}")
        if not self.row_shape or min(self.row_shape) < 1:
            raise UsageError(f"{self.name}: a row of shape {self.row_shape} holds nothing")

    @property
    def modality(self) -> str:
        """`visual` or `audio`."""
        return self.name.split("/", 1)[0]

    @property
    def tap(self) -> str:
        """Name within the modality."""
        return self.name.split("/", 1)[1]

    @property
    def is_float(self) -> bool:
        """Whether values may be NaN."""
        return self.dtype.startswith("float")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row without its checksum."""
        return math.prod(self.row_shape) * ITEM_BYTES[self.dtype]

    @property
    def alignment(self) -> int:
        """Bytes that the start of every chunk is a multiple of."""
        return PAGE_BYTES if self.row_bytes >= PAGED_FROM_BYTES else 1

    def shard_key(self, unit: int) -> str:
        """Path of the shard of a unit, relative to the cache."""
        return f"{self.name}/c.{unit}" + ".0" * len(self.row_shape)

    def as_json(self) -> dict[str, Any]:
        """Members of its ledger document."""
        return {"name": self.name, "row_shape": list(self.row_shape), "dtype": self.dtype}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ArraySpec:
        """From the members of its ledger document."""
        return cls(content["name"], tuple(content["row_shape"]), content["dtype"])


@dataclass(frozen=True)
class Layout:
    """The paths of one cache.

    Attributes:
        root: folder of the cache.
    """

    root: Path

    @property
    def ledger(self) -> Path:
        """Folder of the ledger."""
        return self.root / "ledger"

    @property
    def cache_document(self) -> Path:
        """What the cache is of; its presence makes a folder a cache."""
        return self.ledger / "cache.json"

    @property
    def arrays(self) -> Path:
        """Folder of the array declarations."""
        return self.ledger / "arrays"

    @property
    def plan(self) -> Path:
        """Folder of the plan documents."""
        return self.ledger / "plan"

    @property
    def records(self) -> Path:
        """Folder of the commit records."""
        return self.ledger / "records"

    @property
    def twins(self) -> Path:
        """Folder of the second copies of the ledger's documents."""
        return self.ledger / "twins"

    @property
    def compact(self) -> Path:
        """Folder of the compacted ledger."""
        return self.ledger / "compact"

    @property
    def temporaries(self) -> Path:
        """Folder of the writers' temporaries."""
        return self.ledger / "tmp"

    @property
    def leases(self) -> Path:
        """Folder of the leases."""
        return self.ledger / "leases"

    @property
    def planner_lock(self) -> Path:
        """File that a planner locks."""
        return self.ledger / "planner.lock"

    @property
    def compact_lock(self) -> Path:
        """File that whoever compacts the ledger locks."""
        return self.ledger / "compact.lock"

    def has_documents(self) -> bool:
        """Whether anything was planned or committed here. Folders alone are those of a cache that is being made."""
        folders = (self.plan, self.records, self.twin(self.plan), self.twin(self.records))
        return any(any(folder.glob("*.json")) for folder in folders)

    @property
    def repair_lock(self) -> Path:
        """File that a repair locks."""
        return self.ledger / "repair.lock"

    @property
    def quarantine_table(self) -> Path:
        """Table of the quarantined clips, for other programs; absent where there are none. Zarr readers list the root
        and not the ledger, so it lies there."""
        return self.ledger / "quarantine.parquet"

    def spec(self, modality: str) -> Path:
        """Spec document of a modality."""
        return self.ledger / f"spec-{modality}.json"

    def array_declaration(self, name: str) -> Path:
        """Ledger document that declares an array."""
        return self.arrays / f"{name.replace('/', '.', 1)}.json"

    def plan_document(self, first_unit: int) -> Path:
        """Plan document that begins with `first_unit`."""
        return self.plan / f"{first_unit:08d}.json"

    def record(self, unit: int, sequence: int) -> Path:
        """Commit record number `sequence` of a unit."""
        return self.records / f"{unit:08d}.{sequence:04d}.json"

    def lease(self, unit: int) -> Path:
        """Lease of a unit."""
        return self.leases / f"{unit:08d}"

    def twin(self, document: Path) -> Path:
        """The second copy of a ledger document."""
        return self.twins / document.relative_to(self.ledger)

    def zarr_document(self, node: str) -> Path:
        """`zarr.json` of a group or array; "" is the root."""
        return self.root / node / "zarr.json"

    def shard(self, array: ArraySpec, unit: int) -> Path:
        """Shard file of a unit."""
        return self.root / array.shard_key(unit)

    def temporary(self, relative: str) -> Path:
        """A writer's temporary, by the name that a record gives it."""
        return self.temporaries / relative
