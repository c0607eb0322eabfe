"""Folders of numbered pictures, whatever the number of digits and the first number."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_NUMBER = re.compile(r"\((?P<bracketed>\d+)\)$|(?P<bare>\d+)$")
_DIGITS = re.compile(r"(\d+)")


def numbered(folder: Path) -> tuple[Path, ...]:
    """Pictures of a folder in the order of their numbers.

    The number is what the name ends with before its suffix: `0001.jpg`, `7.png`, `<name>_3.png`, `<name>.mp4_3.png`,
    `<name> (3).png`. Beside `3.png`, `3 (1).png` is a copy of it and left out.

    Args:
        folder: need not exist.

    Returns:
        Files with a number and the suffix of a picture; those of equal number by name. Empty where there are none.
    """
    return tuple(folder / picture.name for picture in _pictures(names_in(folder)))


def in_time(folder: Path, names: Collection[str] | None = None) -> tuple[Path, ...]:
    """The pictures of a folder that were taken at an even rate, with those named that should be there and are not.

    Without that, all pictures behind a hole in the numbers would be shown too early. Numbers may go in steps (0, 5,
    10, ...). Where most of the numbers between the first and the last are missing they do not count pictures (times,
    ids), and the files are taken as they come.

    Args:
        folder: need not exist.
        names: what lies in it, where that is known.

    Returns:
        As `numbered`, but one file a number: of several suffixes the commonest. Where more than half of the pictures
        have the same text before the number, those with another one are strays and left out. Empty where
        `naming_fault` has something to say.
    """
    names = names_in(folder) if names is None else names
    pictures = _series(_pictures(names))
    if naming_fault(names):
        return ()
    step = math.gcd(*(after.number - before.number for before, after in pairwise(pictures)))
    if step == 0 or (pictures[-1].number - pictures[0].number) // step >= 2 * len(pictures):
        return tuple(folder / picture.name for picture in pictures)
    filled = [folder / pictures[0].name]
    for before, after in pairwise(pictures):
        missing = range(before.number + step, after.number, step)
        filled += [folder / f"{before.text}{number:0{before.digits}}{before.ending}" for number in missing]
        filled.append(folder / after.name)
    return tuple(filled)


def naming_fault(names: Collection[str]) -> str:
    """Why the names in a folder do not tell which pictures are the clip's, and in which order; "" where they do.

    Only a part of a folder, or two series in turns, would be shown as if it were the whole clip.

    Args:
        names: what lies in the folder.
    """
    every = [name for name in names if is_picture(name)]
    pictures = _series(_pictures(every))
    if not every:
        return "no pictures in it"
    if not pictures:
        return f"no picture in it has a number at the end of its name, before the suffix: {min(every)!r}"
    taken = {(each.text, each.number) for each in pictures}
    others = [name for name in every if not (found := _parse(name)) or (found.text, found.number) not in taken]
    if len(others) > len(pictures):
        first = pictures[0].name
        return f"{len(pictures)} of its {len(every)} pictures numbered alike ({first!r}), others not ({min(others)!r})"
    for before, after in pairwise(pictures):
        if before.number == after.number:
            return f"two pictures of number {before.number} in it: {before.name!r} and {after.name!r}"
        if before.text != after.text and _natural(after.name) < _natural(before.name):
            return f"{before.name!r} comes before {after.name!r} by its number, and after it by the text before that"
    return ""


def number_of(name: str) -> int | None:
    """The number that orders a picture among others; None where the name is that of no picture, or has none."""
    picture = _parse(name)
    return None if picture is None else picture.number


def names_in(folder: Path) -> list[str]:
    """Names of what lies in a folder; empty where it cannot be listed."""
    try:
        return os.listdir(folder)  # noqa: PTH208 (names alone are wanted)
    except OSError:
        return []


def _pictures(names: Collection[str]) -> list[_Picture]:
    found = [picture for picture in map(_parse, names) if picture is not None]
    stems = {each.name.removesuffix(each.ending) for each in found if not each.ending.startswith(")")}
    found = [
        each for each in found if not (each.ending.startswith(")") and each.text.removesuffix("(").rstrip() in stems)
    ]
    return sorted(found, key=lambda each: (each.number, each.name))


def _series(pictures: list[_Picture]) -> list[_Picture]:
    """Without strays, and without second pictures of a number."""
    for text, count in Counter(each.text for each in pictures).most_common(1):
        if count > len(pictures) / 2:
            pictures = [each for each in pictures if each.text == text]
    common = Counter(each.ending for each in pictures)
    best: dict[tuple[int, str], _Picture] = {}
    for each in sorted(pictures, key=lambda each: (-common[each.ending], each.name)):
        best.setdefault((each.number, each.text), each)
    return sorted(best.values(), key=lambda each: (each.number, each.name))


@dataclass(frozen=True, slots=True)
class _Picture:
    """A name in its parts: `frame (`, 1, written with 2 digits, `).jpg`."""

    name: str
    text: str
    number: int
    digits: int
    ending: str


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name. `._x.png` is what a Mac leaves beside one."""
    return name.lower().endswith(SUFFIXES) and not name.startswith("._")


def _parse(name: str) -> _Picture | None:
    """A file's name in its parts; None where it is no picture with a number."""
    stem, dot, suffix = name.rpartition(".")
    match = _NUMBER.search(stem)
    if not match or not is_picture(name):
        return None
    digits = match["bracketed"] or match["bare"]
    start = match.start("bracketed" if match["bracketed"] else "bare")
    return _Picture(name, name[:start], int(digits), len(digits), f"{stem[start + len(digits) :]}{dot}{suffix}")


def _natural(name: str) -> list[str | int]:
    """What sorts names as a reader would: 9 before 10."""
    return [int(part) if part.isdigit() else part for part in _DIGITS.split(name.lower())]


def one_per_segment(files: Sequence[Path], segments: int, position: float) -> tuple[Path, ...] | None:
    """The picture of every segment of a clip.

    Args:
        files: pictures taken at an even rate from the start of the clip to its end, in order.
        segments: segments of the clip.
        position: where in a segment its frame is taken, 0 (start) to 1 (end); of no matter where there are as many
            pictures as segments.

    Returns:
        One file a segment, None where there is no picture at all.
    """
    if not files:
        return None
    if len(files) == segments:
        return tuple(files)
    last = len(files) - 1
    return tuple(files[min(last, int((t + position) / segments * len(files)))] for t in range(segments))
