"""Files in folders of wanted files that should not be there."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from avpipe.pipeline.datasets.check.folders import FOLDER, Folders, is_junk
from avpipe.pipeline.datasets.check.look import MASK, PICTURE
from avpipe.pipeline.datasets.check.wanted import Wanted, short_name
from avpipe.pipeline.datasets.checksums import FILE_NAME
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.pictures import number_of

_UNFINISHED = (".part", ".crdownload", ".aria2", ".ytdl", ".partial", ".!qb", ".download")
"""Endings that programs give to downloads under way."""
_ID_TEXT = re.compile(r"[^\s&,;:'\"()\[\]{}|]+")
_RECURRING = 0.25
"""Share of folders."""
_YOUTUBE_ID = 11
"""Characters; some datasets name files by the YouTube id alone."""


def strays(
    dataset: Dataset,
    wanted: Mapping[Path, Wanted],
    folders: Folders,
    rows: str,
    misplaced: Collection[Path],
    named: Collection[str] = (),
) -> list[Finding]:
    """A note for each file in a folder of wanted files that nothing names, and a fault for names that differ in case.

    Args:
        dataset: the dataset.
        wanted: its files.
        folders: listings.
        rows: text of rows that were left out, whose files are no strays.
        misplaced: wanted files that lie in a wrong folder, which are reported as missing.
        named: absolute paths of files and folders that a table names, whatever became of its rows.
    """
    tokens = {part for token in _ID_TEXT.findall(rows) for part in (token, token.rpartition("/")[2])}
    ids = tokens | {token[:_YOUTUBE_ID] for token in tokens}
    inside = _by_folder({path: one for path, one in wanted.items() if not one.is_folder})
    folders_named = {_absolute(path) for path, one in wanted.items() if one.is_folder}
    sums = _absolute(dataset.root / FILE_NAME)
    known = _with_parents({*named, sums, *folders_named, *map(_absolute, inside), *map(_absolute, misplaced)})
    layout = _of_layout(inside, folders)
    findings: list[Finding] = []
    for folder, files in inside.items():
        picked = _is_picked_from(folder, files, folders)
        place = _absolute(folder)
        for name, kind in sorted(folders.listing(folder).items()):
            if name in files or name in layout or is_junk(name) or f"{place}{os.sep}{name}" in known:
                continue
            if _is_known(name, ids) or (picked and Path(name).suffix in picked):
                continue
            finding = _stray(folder, name, kind, files, folders, own=is_own(dataset.name))
            findings += [finding] if finding else []
    for place, folder in _folders_of_clips(dataset, inside).items():
        for name, kind in sorted(folders.listing(folder).items()):
            if kind != FOLDER or is_junk(name) or f"{place}{os.sep}{name}" in known or _is_known(name, ids):
                continue
            findings.append(Finding("stray-file", str(folder / name), "a folder of no clip", level=NOTE))
    return findings


def _by_folder(wanted: Mapping[Path, Wanted]) -> dict[Path, dict[str, Wanted]]:
    """Wanted files by folder and name; a folder that is written in several ways (`a`, `b/../a`) is there once."""
    spellings: dict[Path, dict[str, Wanted]] = {}
    places: dict[str, dict[str, Wanted]] = {}
    inside: dict[Path, dict[str, Wanted]] = {}
    for path, one in wanted.items():
        folder = path.parent
        if folder not in spellings:
            place = _absolute(folder)
            if place not in places:
                inside[folder] = places[place] = {}
            spellings[folder] = places[place]
        spellings[folder][path.name] = one
    return inside


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (links are not followed)


def _with_parents(paths: Collection[str]) -> set[str]:
    known: set[str] = set()
    for path in paths:
        at = path
        while at not in known:
            known.add(at)
            at = os.path.dirname(at)  # noqa: PTH120 (there may be a hundred thousand)
    return known


def _of_layout(leaves: Collection[Path], folders: Folders) -> set[str]:
    """Names that recur from folder to folder, as `labels_rgb` and `audio.pkl` do: part of the layout, though unused."""
    counts = Counter(name for leaf in leaves for name in folders.listing(leaf))
    return {name for name, count in counts.items() if count > 1 and count > _RECURRING * len(leaves)}


def _stray(
    folder: Path, name: str, kind: str, named: Mapping[str, Wanted], folders: Folders, *, own: bool
) -> Finding | None:
    where, role = str(folder / name), next(iter(named.values())).role
    stem, ending = Path(name).stem, Path(name).suffix
    if ending.lower() in _UNFINISHED:
        about = f": {stem} is not complete" if stem in named else ""
        return Finding("unfinished-download", where, f"a download that did not finish{about}")
    for other in named:
        if other.lower() == name.lower():
            if folders.listing(folder).get(other) is None:
                return None  # named with the file that is missing
            what = f"the same name as {other!r} in other case: one of them is lost where case does not count"
            return Finding("case-clash", where, what)
    if own and ending not in {Path(other).suffix for other in named}:
        return None  # a table may lie anywhere
    if kind == FOLDER:
        return Finding("stray-file", where, "a folder among media", "left out", level=NOTE)
    if role == MASK and own and number_of(name) is not None:
        return None  # who read the table has looked at all of them
    if role == MASK:
        return Finding("extra-mask", where, "a mask of a segment that has none by the protocol", "left out", level=NOTE)
    return Finding("stray-file", where, "no annotation names it", "left out", level=NOTE)


def _is_known(name: str, ids: Collection[str]) -> bool:
    stem = name.rpartition(".")[0] or name
    return name in ids or stem in ids or stem.rpartition("_")[0] in ids


def _is_picked_from(folder: Path, named: Mapping[str, Wanted], folders: Folders) -> set[str]:
    """Suffixes of numbered pictures among which a clip's frames were picked, so that others may lie beside them."""
    if any(one.role != PICTURE for one in named.values()):
        return set()
    numbers = sorted(number for name in named if (number := number_of(name)) is not None)
    every = [n for name in folders.listing(folder) if (n := number_of(name)) is not None and not is_junk(name)]
    in_turn = numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    return set() if in_turn and numbers[:1] == sorted(every)[:1] else {Path(name).suffix for name in named}


def _folders_of_clips(dataset: Dataset, inside: Mapping[Path, Mapping[str, Wanted]]) -> dict[str, Path]:
    """Folders that have a folder for each clip, by absolute path."""
    shorts = {clip.id: short_name(clip) for clip in dataset.clips}
    found: dict[str, set[str]] = defaultdict(set)
    places: dict[str, Path] = {}
    for leaf, files in inside.items():
        for short in {shorts.get(one.clip, "") for one in files.values()}:
            for folder in (leaf, leaf.parent):
                if folder.name and folder.name in (short, short[:_YOUTUBE_ID]):
                    place = _absolute(folder.parent)
                    places.setdefault(place, folder.parent)
                    found[place].add(folder.name)
                    break
    # A folder of a user may be named as a clip by chance.
    return {place: folder for place, folder in places.items() if len(found[place]) > 1 or not is_own(dataset.name)}
