"""Where features come from: a folder of `<id>.npy`, or one file with a clip a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from avpipe.pipeline.cache_import.names import names_of, rows_by_ids, rows_by_order
from avpipe.pipeline.cache_import.npy import open_npy, rejected
from avpipe.pipeline.cache_import.tables import SUFFIXES, Table, open_table
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset


@dataclass(frozen=True, slots=True)
class ClipValues:
    """Features of one clip as they lie in a source.

    Attributes:
        label: file, and row where there are several, without the folders above.
        shape: `[T, ...]`.
        read: `(start, stop)` -> these rows of the first axis, in the source's type.
    """

    label: str
    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]


class Source(Protocol):
    """Features by clip."""

    def signature(self, clip: str) -> str:
        """Size and time of the file that has them, `<bytes>:<nanoseconds>`; "" where there is none."""

    def open(self, clip: str) -> AbstractContextManager[ClipValues]:
        """The features of a clip.

        Raises:
            InputRejected: there are none, or they cannot be read.
        """

    def doubt(self, clip: str) -> str:
        """What is odd about a clip's features, one line; "" for nothing."""

    def close(self) -> None:
        """Closes what is open."""


def open_source(path: Path, dataset: Dataset) -> Source:
    """The source that a path names.

    Raises:
        UsageError: it cannot be used; says why and what would do.
    """
    if path.is_dir():
        return FolderSource(path, names_of(dataset))
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: give a folder of <id>.npy, or one file that ends in {', '.join(SUFFIXES)}")
    table = open_table(path)
    try:
        if table.ids is None:
            return TableSource(path, table, rows_by_order(dataset, path, table.shape[0]))
        if len(table.ids) != table.shape[0]:
            raise UsageError(f"{path}: {len(table.ids)} ids for {table.shape[0]} rows")
        return TableSource(path, table, rows_by_ids(table.ids, names_of(dataset)))
    except BaseException:
        table.close()
        raise


class FolderSource:
    """A folder with one npy file a clip."""

    def __init__(self, path: Path, names: Mapping[str, Sequence[str]]) -> None:
        self._path, self._names = path, names
        with os.scandir(path) as entries:
            listed = [entry.name for entry in entries]
        self._there = {name for name in listed if name.endswith(".npy")}
        if not self._there:
            held = f"it holds {sorted(listed)[0]!r}" if listed else "it is empty"
            raise UsageError(f"{path}: no .npy file ({held}): give the folder that has <id>.npy itself")

    def signature(self, clip: str) -> str:
        """Size and time of the clip's file."""
        try:
            status = self._file(clip).stat()
        except OSError:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}"

    @contextmanager
    def open(self, clip: str) -> Iterator[ClipValues]:
        """The features of a clip."""
        path = self._file(clip)
        with open_npy(path) as rows:
            yield ClipValues(f"{path.parent.name}/{path.name}", rows.shape, rows.read)

    def doubt(self, clip: str) -> str:
        """Nothing: a clip has one file."""
        return ""

    def close(self) -> None:
        """Nothing stays open."""

    def _file(self, clip: str) -> Path:
        """The clip's file, or the one that it would have."""
        names = [f"{name}.npy" for name in self._names.get(clip, (clip,))]
        return self._path / next((name for name in names if name in self._there), names[-1])


class TableSource:
    """One file with a clip a row."""

    def __init__(self, path: Path, table: Table, rows: Mapping[str, tuple[int, ...]]) -> None:
        self._path, self._table, self._rows = path, table, rows
        status = path.stat()
        self._signature = f"{status.st_size}:{status.st_mtime_ns}"

    def signature(self, clip: str) -> str:
        """Size and time of the file."""
        return self._signature if clip in self._rows else ""

    @contextmanager
    def open(self, clip: str) -> Iterator[ClipValues]:
        """The features of a clip: of its first row, where it has several."""
        if clip not in self._rows:
            raise rejected(f"{self._path}: no row of this clip")
        row = self._rows[clip][0]
        values = self._table.read(row)
        yield ClipValues(f"{self._path.name} row {row}", values.shape, lambda start, stop: values[start:stop])

    def doubt(self, clip: str) -> str:
        """Whether the rows of a clip differ."""
        first, *others = self._rows[clip]
        if not others:
            return ""
        values = self._table.read(first)
        differing = [row for row in others if not np.array_equal(values, self._table.read(row), equal_nan=True)]
        if not differing:
            return ""
        return (
            f"{self._path.name}: rows {first} and {', '.join(map(str, differing))} of it differ; row {first} is taken"
        )

    def close(self) -> None:
        """Closes the file."""
        self._table.close()
