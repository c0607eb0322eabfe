"""What lies in folders, each of them listed once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

FILE, FOLDER, LINK, OTHER = "file", "folder", "broken link", "other"
"""Kinds of entries; `other` are pipes, sockets and devices."""

JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "__macosx", "lost+found"})
"""Lower-case names of what systems leave behind."""


@dataclass
class Folders:
    """Listings of folders, made when they are asked for.

    Attributes:
        unreadable: folders that cannot be listed, with the reason.
    """

    unreadable: dict[Path, str] = field(default_factory=dict)
    _listed: dict[Path, dict[str, str]] = field(default_factory=dict)

    def listing(self, folder: Path) -> dict[str, str]:
        """Kind of every entry by name; empty where there is no such folder, or where it cannot be listed."""
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._listed[folder]

    def kind(self, path: Path) -> str | None:
        """Kind of what is there, None where nothing is."""
        return self.listing(path.parent).get(path.name)

    def _list(self, folder: Path) -> dict[str, str]:
        try:
            with os.scandir(folder) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            self.unreadable[folder] = (error.strerror or str(error)).lower()
            return {}


def is_junk(name: str) -> bool:
    """Whether a system, and not a user, made the file: hidden files, `._x` of a Mac, Thumbs.db."""
    return name.startswith(".") or name.lower() in JUNK


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_file():
            return FILE
        if entry.is_dir():
            return FOLDER
        return LINK if entry.is_symlink() else OTHER
    except OSError:  # a link that leads in a circle
        return LINK
