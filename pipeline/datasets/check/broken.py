"""The one exception of a look at a file."""

from __future__ import annotations


class Broken(Exception):
    """Something is wrong with a file.

    Args:
        kind: the kind of finding.
        what: what is wrong, without the file's name.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind, self.what = kind, what
