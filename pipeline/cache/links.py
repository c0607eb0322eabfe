"""Symbolic links inside a cache: no writer makes one, so whoever did means something else by it."""

from __future__ import annotations

import os
from pathlib import Path


def find_links(root: Path) -> frozenset[Path]:
    """Every symbolic link below a folder; none is followed. The folder itself may be one.

    Args:
        root: the folder.
    """
    found = []
    for folder, folders, files in os.walk(root):
        found += [path for name in folders + files if (path := Path(folder, name)).is_symlink()]
    return frozenset(found)


def leads_through(path: Path, links: frozenset[Path]) -> bool:
    """Whether a path is one of these links, or lies beyond one."""
    return bool(links) and (path in links or any(parent in links for parent in path.parents))
