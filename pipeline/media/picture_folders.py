"""What is wrong with a folder of pictures that none can be taken from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from avpipe.pipeline.media.pictures import SUFFIXES, is_picture, names_in, naming_fault

_NAMES = "names that work: 0001.jpg, x_2.png, frame (3).webp, numbered in the order of time"


class Fault(NamedTuple):
    """What is wrong, without the folder's name, and what to do."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}"


def folder_fault(folder: Path) -> Fault | None:
    """Why no pictures can be taken from a folder; None where some can."""
    try:
        entries = sorted(os.listdir(folder))  # noqa: PTH208 (names alone are wanted)
    except FileNotFoundError:
        return Fault("no such folder of pictures", "name one that is there")
    except NotADirectoryError:
        return Fault("a file, where a folder of pictures is expected", "name the folder that its pictures lie in")
    except OSError as error:
        return Fault(f"the folder cannot be listed ({(error.strerror or str(error)).lower()})", "may it be read?")
    if not entries:
        return Fault("the folder is empty", f"put the clip's pictures there; {_NAMES}")
    what = naming_fault(entries)
    if not what:
        return None
    if any(map(is_picture, entries)):
        return Fault(what, _NAMES)
    deeper = [name for name in entries if any(map(is_picture, names_in(folder / name)))]
    if deeper:
        return Fault(f"no pictures in it, but in its folder {deeper[0]!r}", "name that one, one folder a clip")
    kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
    return Fault(f"no pictures in it ({entries[0]!r} is none)", f"pictures are {kinds}; {_NAMES}")
