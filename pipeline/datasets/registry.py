"""Which datasets there are, and where each is looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avpipe import data_manifests
from avpipe.pipeline.datasets import own
from avpipe.pipeline.datasets.checksums import with_checksums
from avpipe.pipeline.datasets.overrides import read_overrides
from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import Dataset

DATA_VARIABLE = "AVPIPE_DATA"
DEFAULT_FOLDER = Path("data")
_FEW_MARKERS = 4
"""Markers that a message names all of."""

Read = Callable[..., Dataset]
"""`(name, root, **options) -> Dataset`; the options, all text, are those that the adapter names."""


@dataclass(frozen=True)
class Adapter:
    """How one dataset is recognised and read.

    Attributes:
        name: name on the command line.
        read: `(name, root, **options) -> Dataset`, called only where one of the markers exists.
        markers: files relative to the root; one of them must exist.
        confirm: `(root) -> bool`, whether a root with a marker holds the dataset, for markers that others have as well.
        options: names of the `key=value` settings that `read` understands.
    """

    name: str
    read: Read
    markers: tuple[str, ...]
    confirm: Callable[[Path], bool]
    options: tuple[str, ...] = ()

    def present(self, place: Path) -> list[str]:
        """The markers that exist in a folder."""
        return [marker for marker in self.markers if (place / marker).is_file()]

    def is_at(self, place: Path) -> bool:
        """Whether a folder holds the dataset."""
        return bool(self.present(place)) and self.confirm(place)


_adapters: dict[str, Adapter] = {}


def register(
    name: str,
    *,
    markers: tuple[str, ...],
    confirm: Callable[[Path], bool] = lambda root: True,
    options: tuple[str, ...] = (),
) -> Callable[[Read], Read]:
    """Decorator that makes a reading function known as dataset `name`; see `Adapter` for the arguments."""

    def add(read: Read) -> Read:
        _adapters[name] = Adapter(name, read, markers, confirm, options)
        return read

    return add


def names() -> tuple[str, ...]:
    """Names of all datasets, sorted."""
    return tuple(sorted(_adapters))


def _adapter(name: str) -> Adapter:
    if name not in _adapters:
        raise unknown_name(
            "dataset",
            name,
            _adapters,
            listing="`avpipe data ls` lists them; a table of your own ends in .csv, .parquet or .yaml",
        )
    return _adapters[name]


def manifest_of(name: str) -> Mapping[str, Any]:
    """The facts about dataset `name`, as in `data_manifests/`.

    Raises:
        UsageError: the dataset is not known.
    """
    return data_manifests.load(_adapter(name).name)


def folder(name: str) -> str:
    """Name of the folder of dataset `name` below `$AVPIPE_DATA` or `data/`, and of its default cache.

    Subsets of one dataset have the same folder, so that they share a cache. That of a user's own table is its name
    without the ending.
    """
    if own.is_own(name):
        return Path(name).stem
    return str(manifest_of(name)["folder"])


def longest_clip(name: str) -> int:
    """Segments of the longest full clip of any dataset that shares a cache with dataset `name`; 0 for other names."""
    known = [manifest_of(other) for other in names()] if name in _adapters else []
    return max((int(m["timeline"]["segments"]) for m in known if m["folder"] == folder(name)), default=0)


def candidates(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Folders where dataset `name` is looked for, in this order.

    Args:
        name: name of the dataset.
        root: the folder given by the user; then it is the only one.
    """
    if root is not None:
        return (Path(root),)
    if own.is_own(name):
        return (Path(name).parent,)
    below = folder(name)
    variable = os.environ.get(DATA_VARIABLE)
    return (*((Path(variable) / below,) if variable else ()), DEFAULT_FOLDER / below)


def find(name: str, root: Path | None = None) -> Path | None:
    """The first of `candidates` that holds dataset `name`, or None."""
    if own.is_own(name):
        return next((place for place in candidates(name, root) if (place / Path(name).name).is_file()), None)
    adapter = _adapter(name)
    return next((place for place in candidates(name, root) if adapter.is_at(place)), None)


def locate(name: str, root: Path | None = None) -> Path:
    """The folder that holds dataset `name`: `root`, else `$AVPIPE_DATA/<folder>`, else `data/<folder>`.

    Raises:
        UsageError: not found; the message says what was looked for, and how to get the data.
    """
    found = find(name, root)
    if found is None:
        raise UsageError(_not_found(name, root))
    return found


def _not_found(name: str, root: Path | None) -> str:
    adapter, manifest = _adapter(name), manifest_of(name)
    lines = [f"dataset {name!r} not found; looked in:"]
    for place in candidates(name, root):
        lines.append(f"  {place.absolute()}: {_what_is_there(adapter, place)}")
    if root is None and DATA_VARIABLE not in os.environ:
        lines.append(f"  (${DATA_VARIABLE} is not set; `--root DIR` names a folder)")
    lines += ["expected there:", *(f"  {entry}" for entry in manifest["layout"])]
    lines.append(f"how to get it: {manifest['get']}")
    lines.append(f"or make demo data in the same layout: avpipe data make --dataset {name}")
    return "\n".join(lines)


def _what_is_there(adapter: Adapter, place: Path) -> str:
    if not place.exists():
        return "no such folder"
    if not place.is_dir():
        return "not a folder"
    if present := adapter.present(place):
        return f"{' and '.join(present)}, but of something else"
    if len(adapter.markers) > _FEW_MARKERS:
        return f"none of the annotation files ({', '.join(adapter.markers[:_FEW_MARKERS])}, ...)"
    return f"no {' and no '.join(adapter.markers)}"


def load_dataset(
    name: str,
    root: Path | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, str] | None = None,
    segments: Mapping[str, int] | None = None,
) -> Dataset:
    """Finds and reads a dataset's annotations; media files are named, not opened.

    Args:
        name: name of the dataset, one of `names()`, or a table of the user's own (`own.is_own`).
        root: its folder; without it `$AVPIPE_DATA/<folder>` and then `data/<folder>`; that of the table where `name` is
            a table without a folder.
        task: what is to be learned, where a table of the user's own allows several tasks; else the dataset's own.
        options: `key=value` settings of the reading.
        segments: segments of clips that are known already, so that a table's media need not be opened for it.

    Returns:
        The dataset, with the default backbones and policies of its manifest overridden by an `avpipe.yaml` in its
        folder, and its clips with the checksums that a `sha256sums.txt` there has.

    Raises:
        UsageError: unknown name, task or option, not found, or an annotation file that cannot be used.
    """
    chosen = dict(options or {})
    if own.is_own(name):
        dataset = own.read_own(name, root, task=task, options=chosen, segments=segments or {})
        return with_checksums(_with_defaults(dataset, dataset.backbones, dataset.media))
    adapter = _adapter(name)
    if task is not None and task != manifest_of(name)["task"]:
        raise UsageError(f"the task of {name} is {manifest_of(name)['task']}, not {task}")
    for option in chosen:
        if option not in adapter.options:
            raise unknown_name(f"setting of {name}", option, adapter.options, listing="it has none")
    place = locate(name, root)
    manifest, dataset = manifest_of(name), adapter.read(name, place, **chosen)
    dataset = _with_defaults(dataset, manifest["backbones"], manifest.get("media", {}))
    return with_checksums(replace(dataset, options={**dataset.options, **chosen}))


def _with_defaults(dataset: Dataset, backbones: Mapping[str, Any], media: Mapping[str, str]) -> Dataset:
    """The dataset with its defaults, or what an `avpipe.yaml` in its folder has in their place."""
    over = read_overrides(dataset.root)
    return replace(
        dataset, backbones={**backbones, **over.get("backbones", {})}, media={**media, **over.get("media", {})}
    )
