"""A folder of PNG files, one for each segment of each sample.

Looked for, with `<name>` the id of the sample or of its clip, with or without the subset in front, and `<n>` the number
of the segment as the dataset's own masks count it (S4, MS3 and a user's own data from 1, AVSS from 0), leading zeros or
not:

    <name>/<n>.png      <name>_<n>.png      <name>/<name>_<n>.png      or the end of the path of the dataset's own mask

A path that two segments might have, such as the end `labels_semantic/0.png` of many masks, means none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.manifest import Sample
from avpipe.stages.scoring.names import listed, spellings
from avpipe.stages.scoring.npz_samples import Wanted

_NUMBERED = re.compile(r"^(.*?)0*(\d+)\.png$")
Pictures = tuple[Path | None, ...]
"""The picture of each segment of a sample, None where there is none."""


def read_pictures(folder: Path, wanted: Wanted, first: int) -> Iterator[tuple[int, Pictures]]:
    """The pictures of one sample after the other, in official order; samples without any are left out.

    Args:
        folder: holds PNG files, in folders or not.
        wanted: what is to be predicted.
        first: number of the first segment.

    Raises:
        UsageError: a picture belongs to no segment, or two to the same.
    """
    meant = _Meanings(wanted, first)
    found: dict[int, dict[int, str]] = {}
    foreign = []
    for name in _pictures(folder):
        place, segment = meant.of(name)
        if place < 0:
            foreign.append(name)
        elif (other := found.setdefault(place, {}).setdefault(segment, name)) != name:
            sample = wanted.names.samples[place].id
            raise UsageError(f"{folder}: {other} and {name} are both of segment {segment + first} of sample {sample!r}")
    if foreign:
        example = ", ".join(meant.examples())
        raise UsageError(
            f"{folder}: no segment of split {wanted.names.split} belongs to {listed(foreign)}; names may look like "
            f"{example}"
        )
    for place in sorted(found):
        own = found[place]
        yield (
            place,
            tuple(folder / own[segment] if segment in own else None for segment in range(max(own) + 1)),
        )


class _Meanings:
    """Which segment of which sample a path means; a path that several would have means none."""

    def __init__(self, wanted: Wanted, first: int) -> None:
        self._root, self._first, self._wanted = wanted.names.dataset.root, first, wanted
        self._known: dict[str, tuple[int, int]] = {}
        for place, sample in enumerate(wanted.names.samples):
            for segment in range(max(wanted.lengths(place))):
                for key in self._keys(sample, segment):
                    known = self._known.setdefault(key, (place, segment))
                    if known != (place, segment):
                        self._known[key] = (-1, -1)

    def of(self, path: str) -> tuple[int, int]:
        """Place of the sample and segment; -1 where there is none."""
        return self._known.get(_plain(path), (-1, -1))

    def examples(self) -> list[str]:
        """Paths that the picture of the first segment might have."""
        return self._named(self._wanted.names.samples[0], self._first)[-3:]

    def _named(self, sample: Sample, number: int) -> list[str]:
        """Paths made of a sample's names; those of the shortest name last."""
        keys = []
        for name in spellings(sample):
            last = name.rpartition("/")[2]
            keys += [f"{name}/{number}.png", f"{name}_{number}.png", f"{name}/{last}_{number}.png"]
        return keys

    def _keys(self, sample: Sample, segment: int) -> set[str]:
        keys = set(self._named(sample, segment + self._first))
        masks = sample.masks or ()
        mask = masks[segment] if segment < len(masks) else None
        if mask is not None:
            parts = mask.relative_to(self._root).parts if mask.is_relative_to(self._root) else mask.parts[1:]
            keys |= {_plain("/".join(parts[start:])) for start in range(len(parts))}
        return keys


def _pictures(folder: Path) -> Iterator[str]:
    """PNG files below a folder, as relative paths."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(".png") and not name.startswith("."):
                yield Path(base, name).relative_to(folder).as_posix()


def _plain(path: str) -> str:
    """A path with its suffix in small letters and without leading zeros in its last number."""
    match = _NUMBERED.match(f"{path[:-4]}.png")
    return f"{match[1]}{match[2]}.png" if match else path


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
