"""Folders of numbered pictures, whatever the number of digits and the first number."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_NUMBER = re.compile(r"(\d+)$")


def numbered(folder: Path) -> tuple[Path, ...]:
    """Pictures of a folder in the order of their numbers.

    The number is what the name ends with before its suffix: `0001.jpg`, `7.png`, `<name>_3.png`, `<name>.mp4_3.png`.

    Args:
        folder: need not exist.

    Returns:
        Files with a number and the suffix of a picture; those of equal number by name. Empty where there are none.
    """
    return tuple(folder / picture.name for picture in _pictures(folder))


def in_time(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder that were taken at an even rate, with those named that should be there and are not.

    Without that, all pictures behind a hole in the numbers would be shown too early. Numbers may go in steps (0, 5,
    10, ...). Where most of the numbers between the first and the last are missing they do not count pictures (times,
    ids), and the files are taken as they come.

    Args:
        folder: need not exist.

    Returns:
        As `numbered`, but one file a number: of several suffixes the commonest. Where more than half of the pictures
        have the same text before the number, those with another one are strays and left out.
    """
    pictures = _series(_pictures(folder))
    step = math.gcd(*(after.number - before.number for before, after in pairwise(pictures)))
    if step == 0 or (pictures[-1].number - pictures[0].number) // step >= 2 * len(pictures):
        return tuple(folder / picture.name for picture in pictures)
    filled = [folder / pictures[0].name]
    for before, after in pairwise(pictures):
        missing = range(before.number + step, after.number, step)
        filled += [folder / f"{before.text}{number:0{before.digits}}{before.suffix}" for number in missing]
        filled.append(folder / after.name)
    return tuple(filled)


def _pictures(folder: Path) -> list[_Picture]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [picture for picture in map(_parse, names) if picture is not None]
    return sorted(found, key=lambda each: (each.number, each.name))


def _series(pictures: list[_Picture]) -> list[_Picture]:
    """Without strays, and without second pictures of a number."""
    for text, count in Counter(each.text for each in pictures).most_common(1):
        if count > len(pictures) / 2:
            pictures = [each for each in pictures if each.text == text]
    common = Counter(each.suffix for each in pictures)
    best: dict[tuple[int, str], _Picture] = {}
    for each in sorted(pictures, key=lambda each: (-common[each.suffix], each.name)):
        best.setdefault((each.number, each.text), each)
    return sorted(best.values(), key=lambda each: (each.number, each.name))


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    text: str
    number: int
    digits: int
    suffix: str


def _parse(name: str) -> _Picture | None:
    """A file's name as text, number and suffix; None where it is no picture with a number."""
    stem, dot, suffix = name.rpartition(".")
    match = _NUMBER.search(stem)
    if not match or f"{dot}{suffix}".lower() not in SUFFIXES or name.startswith("._"):
        return None
    return _Picture(name, stem[: match.start()], int(match[1]), len(match[1]), dot + suffix)


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
