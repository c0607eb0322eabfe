"""Fixtures that make annotation files and empty media files, and look at what was said about broken rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from avpipe.pipeline.manifest import Dataset


@pytest.fixture
def write_table() -> Callable[[Path, str, Sequence[str]], None]:
    """`write_table(path, header, rows)` writes a table and makes the folder that it is in."""

    def write(path: Path, header: str, rows: Sequence[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n")

    return write


@pytest.fixture
def touch() -> Callable[..., None]:
    """`touch(*paths)` makes empty files and the folders that they are in."""

    def make(*paths: Path) -> None:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.fixture
def assert_faults() -> Callable[[Dataset, str, dict[int, str]], None]:
    """`assert_faults(dataset, table, faults)`: a note names each line of the table, from 1, with its fault."""

    def check(dataset: Dataset, table: str, faults: dict[int, str]) -> None:
        for line, fault in faults.items():
            assert any(f"{table} line {line}: " in note and fault in note for note in dataset.notes), dataset.notes

    return check
