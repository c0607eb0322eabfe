"""A folder of PNG files, one for each segment of each sample.

Looked for, with `<name>` the id of the sample or of its clip, with or without the subset in front, and `<n>` the number
of the segment as the dataset's own masks count it (S4, MS3 and a user's own data from 1, AVSS from 0), leading zeros or
not:

    <name>/<n>.png      <name>_<n>.png      <name>/<name>_<n>.png      or the end of the path of the dataset's own mask

Where numbers begin with 1, the pictures of a sample may be numbered from 0 instead, as AVSBench's authors save theirs:
one for each of its segments, and no more.

A path that two segments might have, such as the end `labels_semantic/0.png` of many masks, means none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.pipeline import progress
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.scoring.names import listed, spellings
from avpipe.stages.scoring.npz_samples import Wanted

_NUMBERED = re.compile(r"^(.*?)0*(\d+)\.png$")
_NO_PNG = (".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp")
Pictures = tuple[Path | None, ...]
"""The picture of each segment of a sample, None where there is none."""
_Meanings = dict[str, tuple[int, int]]
"""Place of the sample and segment by path; -1 where several would have it."""


def read_pictures(folder: Path, wanted: Wanted, first: int) -> Iterator[tuple[int, Pictures]]:
    """The pictures of one sample after the other, in official order; samples without any are left out.

    Args:
        folder: holds PNG files, in folders or not.
        wanted: what is to be predicted.
        first: number of the first segment.

    Raises:
        UsageError: there is no PNG, a picture belongs to no segment, or two to the same, or one is no PNG.
    """
    names, others = _pictures(folder)
    examples = ", ".join(_named(wanted.names.samples[0], first)[-3:])
    if not names:
        held = f"; it has {listed(others)}" if others else ""
        raise UsageError(f"{folder} holds no PNG file{held}: save 8-bit grey PNG files, with names such as {examples}")
    found: dict[int, dict[int, str]] = {}
    left = names
    for count in (wanted.names.count, len(wanted.names.samples)):  # then those of other splits
        if left:
            left = _take(folder, left, _meanings(wanted, first, count, left), wanted, first, found)
    if left and first == 1:
        left = _count_from_zero(folder, left, wanted, found)
    if left:
        numbers = ", and numbers begin with 1, or with 0 where a sample has one for each segment" if first else ""
        raise UsageError(
            f"{folder}: no segment of split {wanted.names.split} belongs to {listed(left)}; names may look like "
            f"{examples}{numbers}"
        )
    meant = _meanings(wanted, first, wanted.names.count, others).get
    wrong = [
        name
        for name in others
        for place, segment in [meant(_plain(name), (-1, -1))]
        if place >= 0 and segment not in found.get(place, ())
    ]
    if wrong:
        raise UsageError(f"{folder}: {listed(wrong)}: pictures must be 8-bit grey PNG files")
    for place in sorted(found):
        own = found[place]
        yield (
            place,
            tuple(folder / own[segment] if segment in own else None for segment in range(max(own) + 1)),
        )


def _take(
    folder: Path, names: list[str], meant: _Meanings, wanted: Wanted, first: int, found: dict[int, dict[int, str]]
) -> list[str]:
    """Puts the pictures whose meaning is known into `found`, by place and segment; returns the others."""
    left = []
    for name in names:
        place, segment = meant.get(_plain(name), (-1, -1))
        if place < 0:
            left.append(name)
        elif (other := found.setdefault(place, {}).setdefault(segment, name)) != name:
            sample = wanted.names.samples[place].id
            raise UsageError(f"{folder}: {other} and {name} are both of segment {segment + first} of sample {sample!r}")
    return left


def _count_from_zero(folder: Path, names: list[str], wanted: Wanted, found: dict[int, dict[int, str]]) -> list[str]:
    """Moves the pictures of samples that have every number from 0 to one below their segments, which were read as
    counted from 1; returns the names that still mean nothing."""
    by_path: dict[str, list[str]] = {}
    for name in names:
        by_path.setdefault(_plain(name), []).append(name)
    zeros: dict[str, list[int]] = {}
    for place, sample in enumerate(wanted.names.samples):
        keys = {_NUMBERED.sub(r"\g<1>0.png", key) for key in _keys(sample, 0, 1, wanted.names.dataset.root)}
        for key in keys & by_path.keys():
            zeros.setdefault(key, []).append(place)
    moved = []
    for key, places in zeros.items():
        own = found.get(places[0], {})
        complete = any(set(own) == set(range(length - 1)) for length in wanted.lengths(places[0]))
        if len(places) == len(by_path[key]) == 1 and complete:
            found[places[0]] = {0: by_path[key][0], **{segment + 1: name for segment, name in own.items()}}
            moved += by_path[key]
    if moved:
        progress.say(f"{folder}: pictures of {len(moved)} samples are numbered from 0, and taken as counted from 0")
    return sorted(set(names) - set(moved))


def _meanings(wanted: Wanted, first: int, count: int, names: list[str]) -> _Meanings:
    """Which segment of the first `count` samples the names mean."""
    among = {_plain(name) for name in names}
    known: _Meanings = {}
    for place, sample in enumerate(wanted.names.samples[:count] if among else ()):
        for segment in range(max(wanted.lengths(place))):
            for key in among & _keys(sample, segment, first, wanted.names.dataset.root):
                if known.setdefault(key, (place, segment)) != (place, segment):
                    known[key] = (-1, -1)
    return known


def _named(sample: Sample, number: int) -> list[str]:
    """Paths made of a sample's names; those of the shortest name last."""
    keys = []
    for name in spellings(sample):
        last = name.rpartition("/")[2]
        keys += [f"{name}/{number}.png", f"{name}_{number}.png", f"{name}/{last}_{number}.png"]
    return keys


def _keys(sample: Sample, segment: int, first: int, root: Path) -> set[str]:
    """Paths that the picture of a segment may have."""
    keys = set(_named(sample, segment + first))
    masks = sample.masks or ()
    mask = masks[segment] if segment < len(masks) else None
    if mask is not None:
        parts = mask.relative_to(root).parts if mask.is_relative_to(root) else mask.parts[1:]
        keys |= {_plain("/".join(parts[start:])) for start in range(len(parts))}
    return keys


def _pictures(folder: Path) -> tuple[list[str], list[str]]:
    """PNG files below a folder, and pictures that are none, as relative paths."""
    found: tuple[list[str], list[str]] = ([], [])
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix in (".png", *_NO_PNG):
                found[suffix != ".png"].append(Path(base, name).relative_to(folder).as_posix())
    return found


def _plain(path: str) -> str:
    """A path with `.png` for its suffix and without leading zeros in its last number."""
    name = f"{path.rpartition('.')[0]}.png"
    match = _NUMBERED.match(name)
    return f"{match[1]}{match[2]}.png" if match else name


def read_picture(path: Path, *, classes: bool) -> npt.NDArray[np.uint8]:
    """The values of a picture `[H, W]`: 0 to 255 as stored, a palette's indices for classes.

    Args:
        path: a PNG file.
        classes: values are class ids, else shares of 255.

    Raises:
        UsageError: it is no picture, or not one of 8-bit values.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            mode = picture.mode
            values = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} cannot be read as a picture: {error}") from error
    if mode == "1" and not classes:
        return np.where(values, np.uint8(255), np.uint8(0))
    if mode != "L" and not (mode == "P" and classes):
        what = "class ids" if classes else "probability x 255"
        raise UsageError(f"{path} has Pillow mode {mode!r}: save it as 8-bit grey, {what}")
    return values
