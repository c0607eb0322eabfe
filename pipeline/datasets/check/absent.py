"""Files that should be there and are not, or that are no files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from avpipe.pipeline.datasets.check.folders import FILE, FOLDER, LINK, Folders
from avpipe.pipeline.datasets.check.look import MASK
from avpipe.pipeline.datasets.check.wanted import MASK_FOLDERS, Wanted
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.picture_folders import folder_fault

_WALK_LIMIT = 1_000_000
_CLIPS_SHOWN = 3


def absences(dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders) -> tuple[list[Finding], list[Path]]:
    """Wanted files that are not there or are no files.

    Spare files of a kind of which there is none at all are left out: this copy of the data does without them. Not so
    those that lie elsewhere.

    Returns:
        A finding for each, and for each folder that cannot be listed; and where below the root some of them lie.
    """
    kinds = {path: folders.kind(path) for path in wanted}
    there = {_sort(one) for path, one in wanted.items() if kinds[path] is not None}
    gone = [one for path, one in wanted.items() if kinds[path] != FILE and path.parent not in folders.unreadable]
    elsewhere = _elsewhere(dataset.root, [one.path for one in gone if kinds[one.path] is None], wanted)
    gone = [one for one in gone if not one.spare or _sort(one) in there or one.path in elsewhere]
    lost = {_gives(one) for one in gone if not one.spare}
    gone = [replace(one, spare=one.spare and _gives(one) not in lost) for one in gone]
    findings: list[Finding] = []
    if not is_own(dataset.name):  # each row of a table names its files
        findings, gone = _folders_gone(gone, folders, elsewhere, _clips_of(dataset, {one.path for one in gone}))
    findings += [_absence(one, kinds[one.path], folders, elsewhere.get(one.path)) for one in gone]
    for folder, reason in folders.unreadable.items():
        findings.append(Finding("unreadable", str(folder), f"the folder cannot be listed ({reason})"))
    return findings, list(elsewhere.values())


def _gives(one: Wanted) -> tuple[str, str]:
    """What a file is for, of which another may stand in for it: something of a clip, or the mask of a segment."""
    return one.clip, one.path.name if one.role == MASK else ""


def _folders_gone(
    gone: list[Wanted], folders: Folders, elsewhere: Mapping[Path, Path], clips_of: Mapping[Path, list[str]]
) -> tuple[list[Finding], list[Wanted]]:
    """One finding for each folder that is not there with several files, and the files that are left to be named."""
    lacking: dict[Path, Path | None] = {}
    for leaf in {one.path.parent for one in gone}:
        absent = [folder for folder in (leaf, *leaf.parents) if folder.name and not folders.listing(folder)]
        # The highest one; a listing is empty as well where a folder is, and then its own files are named.
        highest = next((folder for folder in reversed(absent) if folders.kind(folder) != FOLDER), None)
        lacking[leaf] = highest
    counts = Counter(lacking[one.path.parent] for one in gone)
    many = {f for f, count in counts.items() if f is not None and (count > 1 or folders.kind(f) is not None)}
    inside: dict[Path | None, list[Wanted]] = defaultdict(list)
    for one in gone:
        inside[lacking[one.path.parent]].append(one)
    findings = [
        _folder_gone(folder, folders.kind(folder), inside[folder], elsewhere, clips_of) for folder in sorted(many)
    ]
    return findings, [one for one in gone if lacking[one.path.parent] not in many]


def _clips_of(dataset: Dataset, files: Collection[Path]) -> dict[Path, list[str]]:
    """Every clip that reads some files: one video may be seen with several sounds."""
    found: dict[Path, list[str]] = defaultdict(list)
    for clip in dataset.clips if files else ():
        for path in clip.media():
            if path in files:
                found[path].append(clip.id)
    return found


def _folder_gone(
    folder: Path,
    kind: str | None,
    inside: list[Wanted],
    elsewhere: Mapping[Path, Path],
    clips_of: Mapping[Path, list[str]],
) -> Finding:
    clips = list(dict.fromkeys(clip for one in inside for clip in (one.clip, *clips_of.get(one.path, ()))))
    shown = ", ".join(clips[:_CLIPS_SHOWN]) + (", ..." if len(clips) > _CLIPS_SHOWN else "")
    what = "no such folder" if kind is None else "a broken link" if kind == LINK else "a file in place of a folder"
    what += f"; {len(inside)} files of {len(clips)} clip{'s' * (len(clips) > 1)} belong there: {shown}"
    if moved := next((one.path for one in inside if one.path in elsewhere), None):
        what += f"; there is {_place_of(folder, moved, elsewhere[moved])}: unpacked or moved to another folder?"
    done = "others stand in for them" if all(one.spare for one in inside) else "extraction will quarantine such clips"
    done = "their segments have no masks" if all(one.role == MASK and not one.spare for one in inside) else done
    return Finding("missing-folder", str(folder), what, done)


def _place_of(folder: Path, file: Path, lies: Path) -> Path:
    """Where a folder lies, one of whose files lies elsewhere; the file where it lies in a folder of other kind."""
    below = file.relative_to(folder).parts
    return lies.parents[len(below) - 1] if lies.parts[-len(below) :] == below else lies


def _sort(one: Wanted) -> tuple[str, str, str]:
    folder = one.path.parent.name
    return one.role, one.path.suffix, folder if folder in MASK_FOLDERS else ""


def _absence(one: Wanted, kind: str | None, folders: Folders, elsewhere: Path | None) -> Finding:
    name, done = ("missing-mask" if one.role == MASK else "missing-file"), _consequence(one)
    if kind == LINK:
        return Finding(name, str(one.path), "a link to a file that is not there", done)
    if one.is_folder and kind == FOLDER and (fault := folder_fault(one.path)):
        return Finding(name, str(one.path), str(fault), done)
    if kind is not None:
        what = "a folder in place of a file" if kind == FOLDER else "no file, but a pipe, socket or device"
        return Finding("not-a-file", str(one.path), what, done)
    what = "no such folder of pictures" if one.is_folder else "no such file"
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


def _elsewhere(root: Path, missing: Collection[Path], wanted: Mapping[Path, Wanted]) -> dict[Path, Path]:
    """Where below the root a missing file lies instead: a file that nothing names, known by its name and folders.

    Of the path of such a file, the longest end that is that of wanted files counts, if those are all of one clip. Where
    several of them are missing, it is the one in the nearest folder.
    """
    lying = _unnamed(root, {path.name for path in missing}, wanted)
    possible = {end for lies in lying for end in _ends(lies, root)}
    names = {lies.name for lies in lying}  # few, as a rule, of a great many that are missing
    sought: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in missing:
        for end in _ends(path, root) if path.name in names else ():
            if end in possible:
                sought[end].append(path)
    clips: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path, one in wanted.items():
        for end in _ends(path, root) if path.name in names else ():
            if end in sought:
                clips[end].add(one.clip or str(path))
    found: dict[Path, Path] = {}
    for lies in lying:
        end = next((end for end in reversed(_ends(lies, root)) if end in sought), ())
        if len(clips[end]) == 1:
            nearest = max(sought[end], key=lambda path: len({*path.parents} & {*lies.parents}))
            found.setdefault(nearest, lies)
    return found


def _unnamed(root: Path, names: Collection[str], wanted: Collection[Path]) -> list[Path]:
    """Files below the root with one of the names that are no wanted files."""
    found: list[Path] = []
    seen = 0
    for folder, _, files in os.walk(root) if names else ():
        seen += len(files)
        if seen > _WALK_LIMIT:
            break
        found += [path for path in (Path(folder, name) for name in files if name in names) if path not in wanted]
    return found


def _ends(path: Path, root: Path) -> list[tuple[str, ...]]:
    """Ends of a path below the root: its name, its name with that of its folder, and so on."""
    parts = path.parts[len(root.parts) :]
    return [parts[-count:] for count in range(1, len(parts) + 1)]
