"""The dataset whose features are imported; a table of the user's own may speak of videos that are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avpipe.pipeline.cache import is_cache, open_cache
from avpipe.pipeline.cache_import.npy import open_npy
from avpipe.pipeline.cache_import.taps import SourceRequest
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.datasets.origin import options_of
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Dataset


def load_for_import(
    name: str,
    root: Path | None,
    sources: Sequence[SourceRequest],
    cache: Path,
    *,
    task: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Dataset:
    """Reads a dataset's annotations; clips of a table of the user's own are as long as their features.

    Args:
        name: name of the dataset, or a table.
        root: its folder, None for the usual ones.
        sources: where the features are; of several, those with the fewest rows of a clip tell its segments.
        cache: folder of the cache; where it is there, its settings and the lengths of its clips hold.
        task: as for `load_dataset`.
        options: as for `load_dataset`.

    Raises:
        UsageError: as `load_dataset`.
    """
    chosen, lengths = dict(options or {}), _lengths(sources) if is_own(name) else {}
    if is_cache(cache):
        opened = open_cache(cache)
        if is_own(name) == is_own(str(opened.dataset.get("name", ""))):  # else the import refuses the cache
            chosen = options_of(opened.dataset) | chosen
        if is_own(name):
            task = task or opened.dataset.get("task")
            lengths |= {clip: rows.segments for clip, rows in opened.clips([]).items()}
    return load_dataset(name, root, task=task, options=chosen, segments=lengths)


def _lengths(sources: Sequence[SourceRequest]) -> dict[str, int]:
    """Rows of each clip, from the headers in folders of `<id>.npy`."""
    found: dict[str, int] = {}
    for path in (file for source in sources if source.path.is_dir() for file in source.path.glob("*.npy")):
        try:
            with open_npy(path) as rows:
                found[path.stem] = min(rows.shape[0], found.get(path.stem, rows.shape[0]))
        except InputRejected:  # the import names it
            continue
    return {clip: rows for clip, rows in found.items() if rows}
