"""Folders of numbered pictures, whatever the number of digits and the first number."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found = []
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        match = _NUMBER.search(stem)
        if match and f"{dot}{suffix}".lower() in SUFFIXES and not name.startswith("._"):
            found.append((int(match[1]), name))
    return tuple(folder / name for _, name in sorted(found))


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
