"""Under which names, and in which rows of a table, the features of a clip are looked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from avpipe.pipeline.datasets.ave import ANNOTATIONS, BASE
from avpipe.pipeline.datasets.text import read_lines
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.media.pictures import is_picture


def names_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Names under which the features of each clip may lie, by clip id, the likeliest first.

    A clip's own id, then what its files are called, as far as no other clip has the same name.
    """
    others = {clip.id: _other_names(clip) for clip in dataset.clips}
    shared = Counter(name for names in others.values() for name in names)
    return {
        clip: (clip, *(name for name in names if shared[name] == 1 and name not in others))
        for clip, names in others.items()
    }


def _other_names(clip: Clip) -> list[str]:
    found = [clip.id.rpartition("/")[2], clip.source]
    found += [path.stem for path in (clip.video, clip.audio) if path is not None]
    if clip.frames:
        first = clip.frames[0]
        found.append(first.parent.name if is_picture(first.name) else first.name)  # else a folder that gives none
    return list(dict.fromkeys(name for name in found if name and name != clip.id))


def rows_by_ids(ids: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, ...]]:
    """Rows of each clip in a table that names the clip of each row."""
    rows = defaultdict(list)
    for row, name in enumerate(ids):
        rows[name].append(row)
    found = {clip: next((rows[name] for name in known if name in rows), []) for clip, known in names.items()}
    return {clip: tuple(places) for clip, places in found.items() if places}


def rows_by_order(dataset: Dataset, path: Path, rows: int) -> dict[str, tuple[int, ...]]:
    """Rows of each clip in a table without names, which follows the rows of AVE's annotations.

    Args:
        dataset: AVE.
        path: the table, for messages.
        rows: how many it has.

    Raises:
        UsageError: another dataset, or the table has another number of rows than the annotations.
    """
    if dataset.name != "ave":
        raise UsageError(
            f"{path} does not say which row is of which clip, and the order is known for ave alone: give a folder of "
            "<id>.npy, or an npz or h5 file that has `ids` beside the values"
        )
    annotations = next(p for p in (dataset.root / BASE / ANNOTATIONS, dataset.root / ANNOTATIONS) if p.is_file())
    lines = read_lines(annotations)
    expected = len(lines) - (bool(lines) and lines[0].split("&")[0].strip().lower() == "category")
    if rows != expected:
        raise UsageError(
            f"{path} has {rows} rows, {annotations} has {expected}: a file without ids has to follow that list, videos "
            "that stand there twice included"
        )
    found: dict[str, list[int]] = defaultdict(list)
    for sample in dataset.samples:
        found[sample.clip].append(int(sample.id.partition(":")[0]))
    return {clip: tuple(sorted(places)) for clip, places in found.items()}
