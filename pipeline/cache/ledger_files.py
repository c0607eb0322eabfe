"""The ledger's documents as files: which are new, and what to do about one that is damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avpipe.pipeline.cache.documents import read_sealed
from avpipe.pipeline.errors import CorruptionFound

OnFault = Callable[[Path, str], None]
"""Takes the file at fault and a message."""


def refuse(path: Path, message: str) -> None:
    """Stops at the first fault."""
    raise CorruptionFound(message)


class LedgerFiles:
    """Reads sealed documents, each once; one that could not be taken in is read again the next time.

    Attributes:
        listed: every document that was found in its folder.

    Args:
        on_fault: called for each damaged or missing file.
    """

    def __init__(self, on_fault: OnFault) -> None:
        self._on_fault = on_fault
        self._read: set[Path] = set()
        self.listed: set[Path] = set()

    def has_read(self, path: Path) -> bool:
        """Whether a document has been taken in, or reported as damaged to somebody who goes on without it."""
        return path in self._read

    def skip(self, paths: Iterable[Path]) -> None:
        """Counts documents as read: what they say is known."""
        self._read.update(paths)

    @contextmanager
    def sealed(self, path: Path) -> Iterator[dict[str, Any] | None]:
        """The content of a document, None where it is damaged. It counts as read if the block ends without an error."""
        content = None
        try:
            content = read_sealed(path)
        except (CorruptionFound, OSError) as error:
            self._on_fault(path, str(error))
        yield content
        self._read.add(path)

    def unread(self, folder: Path, pattern: re.Pattern[str]) -> list[tuple[tuple[str, ...], Path]]:
        """Documents of a folder that have not been read yet, by name.

        Args:
            folder: the folder.
            pattern: matches the whole name of a document.

        Returns:
            The groups of the match and the path of each.
        """
        try:
            names = sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            self._on_fault(folder, f"{folder} is missing")
            return []
        matches = [(pattern.fullmatch(name), folder / name) for name in names]
        self.listed.update(path for match, path in matches if match)
        return [(match.groups(), path) for match, path in matches if match and path not in self._read]
