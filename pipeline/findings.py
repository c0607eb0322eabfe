"""What is wrong or odd in a dataset, by name: one `Finding` for each row, file or pair of them."""

from __future__ import annotations

from dataclasses import dataclass

FAULT, NOTE = "fault", "note"
"""Levels: something is wrong with this copy of the data; or worth knowing, and no reason to stop."""
NO_TABLE = ("missing-table", "empty-table", "unusable")
"""Kinds of findings on a file of annotations that gives nothing; what follows from that is not told again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a reader of the data should know.

    Attributes:
        kind: fixed short name of what it is, such as `unknown-class` or `missing-file`.
        where: the file, with line or row number where there is one.
        what: what is wrong or odd, with the value.
        done: what is done with it, such as `row left out: ...`; empty where nothing is.
        level: `fault` or `note`.
    """

    kind: str
    where: str
    what: str
    done: str = ""
    level: str = FAULT

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.done}" if self.done else "")
