"""Files that should be there and are not, or that are no files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from avpipe.pipeline.datasets.check.folders import FILE, FOLDER, LINK, Folders
from avpipe.pipeline.datasets.check.look import MASK
from avpipe.pipeline.datasets.check.wanted import MASK_FOLDERS, Wanted
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Dataset

_WALK_LIMIT = 1_000_000
_CLIPS_SHOWN = 3


def absences(dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders) -> tuple[list[Finding], list[Path]]:
    """Wanted files that are not there or are no files.

    Spare files of a kind of which there is none at all are left out: this copy of the data does without them.

    Returns:
        A finding for each, and for each folder that cannot be listed; and where below the root some of them lie.
    """
    kinds = {path: folders.kind(path) for path in wanted}
    there = {_sort(one) for path, one in wanted.items() if kinds[path] is not None}
    gone = [
        one
        for path, one in wanted.items()
        if kinds[path] != FILE and not (one.spare and _sort(one) not in there) and path.parent not in folders.unreadable
    ]
    elsewhere = _elsewhere(dataset.root, [one.path for one in gone if kinds[one.path] is None], wanted)
    findings, gone = _folders_gone(gone, folders, elsewhere)
    findings += [_absence(one, kinds[one.path], folders, elsewhere.get(one.path)) for one in gone]
    for folder, reason in folders.unreadable.items():
        findings.append(Finding("unreadable", str(folder), f"the folder cannot be listed ({reason})"))
    return findings, list(elsewhere.values())


def _folders_gone(
    gone: list[Wanted], folders: Folders, elsewhere: Mapping[Path, Path]
) -> tuple[list[Finding], list[Wanted]]:
    """One finding for each folder that is not there with several files, and the files that are left to be named."""
    lacking: dict[Path, Path | None] = {}
    for leaf in {one.path.parent for one in gone}:
        absent = [folder for folder in (leaf, *leaf.parents) if folder.name and not folders.listing(folder)]
        # The highest one; a listing is empty as well where a folder is, and then its own files are named.
        highest = next((folder for folder in reversed(absent) if folders.kind(folder) is None), None)
        lacking[leaf] = highest
    counts = Counter(lacking[one.path.parent] for one in gone)
    many = {folder for folder, count in counts.items() if folder is not None and count > 1}
    inside: dict[Path | None, list[Wanted]] = defaultdict(list)
    for one in gone:
        inside[lacking[one.path.parent]].append(one)
    findings = [_folder_gone(folder, inside[folder], elsewhere) for folder in sorted(many)]
    return findings, [one for one in gone if lacking[one.path.parent] not in many]


def _folder_gone(folder: Path, inside: list[Wanted], elsewhere: Mapping[Path, Path]) -> Finding:
    clips = list(dict.fromkeys(one.clip for one in inside))
    shown = ", ".join(clips[:_CLIPS_SHOWN]) + (", ..." if len(clips) > _CLIPS_SHOWN else "")
    what = f"no such folder; {len(inside)} files of {len(clips)} clip{'s' * (len(clips) > 1)} belong there: {shown}"
    if place := next((elsewhere[one.path] for one in inside if one.path in elsewhere), None):
        what += f"; there is {place}: unpacked or moved to another folder?"
    done = "others stand in for them" if all(one.spare for one in inside) else "extraction will quarantine such clips"
    done = "their segments have no masks" if all(one.role == MASK and not one.spare for one in inside) else done
    return Finding("missing-folder", str(folder), what, done)


def _sort(one: Wanted) -> tuple[str, str, str]:
    folder = one.path.parent.name
    return one.role, one.path.suffix, folder if folder in MASK_FOLDERS else ""


def _absence(one: Wanted, kind: str | None, folders: Folders, elsewhere: Path | None) -> Finding:
    name, done = ("missing-mask" if one.role == MASK else "missing-file"), _consequence(one)
    if kind == LINK:
        return Finding(name, str(one.path), "a link to a file that is not there", done)
    if kind is not None:
        what = "a folder in place of a file" if kind == FOLDER else "no file, but a pipe, socket or device"
        return Finding("not-a-file", str(one.path), what, done)
    what = "no such file"
    twins = [other for other in folders.listing(one.path.parent) if other.lower() == one.path.name.lower()]
    if twins:
        what += f"; there is {twins[0]!r}, in other case"
    elif elsewhere is not None:
        what += f"; there is {elsewhere}: unpacked or moved to another folder?"
    return Finding(name, str(one.path), what, done)


def _consequence(one: Wanted) -> str:
    if one.spare:
        return "others stand in for it"
    return "its segment has no mask" if one.role == MASK else f"extraction will quarantine clip {one.clip!r}"


def _elsewhere(root: Path, missing: Collection[Path], wanted: Collection[Path]) -> dict[Path, Path]:
    """Where below the root a missing file lies instead, for names that only one wanted file has."""
    if not missing:
        return {}
    names = Counter(path.name for path in wanted)
    sought = {path.name: path for path in missing if names[path.name] == 1}
    found: dict[Path, Path] = {}
    seen = 0
    for folder, _, files in os.walk(root):
        seen += len(files)
        if seen > _WALK_LIMIT or len(found) == len(sought):
            break
        found.update({sought[name]: Path(folder, name) for name in files if name in sought})
    return found
