"""Fixtures that make annotation files and empty media files, and look at what was said about broken rows."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="session")
def demo_layout(tmp_path_factory) -> Callable[[str], Path]:
    """`demo_layout(name)` is the folder of demo data of a few clips; do not change them."""
    base = tmp_path_factory.mktemp("layouts")

    def of(name: str) -> Path:
        from avpipe.stages.demo.generate import make_demo

        if not (base / name).exists():
            make_demo(name, base / name, clips=4 if name == "llp" else 3, workers=1)  # 4: things heard and things seen
        return base / name

    return of


@pytest.fixture
def copy_of(demo_layout, tmp_path) -> Callable[[str], Path]:
    """`copy_of(name)` is a copy of a `demo_layout` that the test may damage."""

    def copy(name: str) -> Path:
        shutil.copytree(demo_layout(name), tmp_path / name)
        return tmp_path / name

    return copy
