"""What a cache notes about its dataset, and how the dataset is read again from that."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets import own
from avpipe.pipeline.datasets.registry import folder, load_dataset
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Dataset


def origin_of(dataset: Dataset) -> dict[str, Any]:
    """What a new cache notes: `name`, `root` (absolute), `task` and `options`."""
    return {
        "name": dataset.name,
        "root": str(dataset.root.resolve()),
        "task": dataset.task,
        "options": dict(dataset.options),
    }


def options_of(origin: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a cache notes; none in caches of before there were any."""
    return {str(name): str(value) for name, value in dict(origin.get("options") or {}).items()}


def read_again(
    name: str,
    root: Path | None,
    origin: Mapping[str, Any],
    *,
    task: str | None = None,
    segments: Mapping[str, int] | None = None,
) -> Dataset:
    """Reads a dataset with the settings that a cache notes.

    Args:
        name: name of the dataset; a subset's, where the cache is of several.
        root: its folder, None where it is usually found.
        origin: what the cache notes.
        task: the task of a table of the user's own; None: the one that the cache notes.
        segments: segments of the clips that the cache holds.

    Raises:
        UsageError: as `load_dataset`.
    """
    if own.is_own(name):
        task = task or (str(origin["task"]) if origin.get("task") else None)
    return load_dataset(name, root, task=task, options=options_of(origin), segments=segments)


def folder_meant(name: str, root: Path | None, origin: Mapping[str, Any]) -> Path | None:
    """The dataset's folder: `root`, else that of a table that is named with its place, else the one a cache notes."""
    if root is not None:
        return root
    if own.is_own(name) and Path(name).is_file():
        return Path(name).parent
    return known_folder(origin)


def known_folder(origin: Mapping[str, Any]) -> Path | None:
    """The folder that a cache notes, if it is still there."""
    known = Path(str(origin.get("root", "")))
    return known if known.is_absolute() and known.is_dir() else None


def refuse_other(cache: Path, origin: Mapping[str, Any], name: str, root: Path | None) -> None:
    """Checks that a cache is of the dataset that is meant.

    Subsets share a cache. Tables of the user's own do so in one folder, where they have one name but for the ending.
    Elsewhere a table of the same name is another dataset, unless it is a copy of the one that the cache is of, or that
    is gone: then it was moved.

    Raises:
        UsageError: it is of another.
    """
    held = str(origin.get("name", ""))
    same = own.is_own(held) == own.is_own(name) and folder(held) == folder(name)
    if same and own.is_own(name):
        known, meant = Path(str(origin.get("root", ""))) / held, own.find_file(name, root)
        moved = not known.is_file() or filecmp.cmp(known, meant, shallow=False)
        same = moved or meant.parent.resolve() == known.parent.resolve()
        held = str(known)
    if not same:
        raise UsageError(f"cache {cache} holds features of {held}, not of {name}: name another one with --cache")
