"""A user's own data as a dataset: a CSV, Parquet or YAML file in place of a name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset

SUFFIXES = (".csv", ".parquet", ".yaml", ".yml")


def is_own(name: str) -> bool:
    """Whether a dataset's name is a file of the user's own."""
    return Path(name).suffix.lower() in SUFFIXES


def read_own(
    name: str,
    root: Path | None,
    *,
    task: str | None,
    options: Mapping[str, str],
    segments: Mapping[str, int],
) -> Dataset:
    """Reads a user's own table; see `load_dataset` for arguments, returns and errors."""
    raise UsageError(f"{name}: tables are not read yet")
