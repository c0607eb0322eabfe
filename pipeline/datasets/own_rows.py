"""What a row of a user's own table says, before any file is looked at."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.checksums import BAD, DIGEST
from avpipe.pipeline.datasets.own_events import Span, parse
from avpipe.pipeline.datasets.own_table import Row, Table
from avpipe.pipeline.errors import shown, unknown_name
from avpipe.pipeline.findings import Finding
from avpipe.pipeline.manifest import SPLITS

_DENSE = ("events", "audio_events", "visual_events")
MOST_SEGMENTS = 100_000
"""More segments than this in the `segments` column are a slip of the pen."""
_UNFIT = ("Cc", "Cs", "Zl", "Zp")
"""Kinds of characters that no id may hold: control characters and ends of lines."""
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
"""Bytes of a file's name, and of a path with the end that C puts to it."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Media:
    """Where the media of a clip are.

    Attributes:
        video: a container.
        frames: a folder of numbered pictures.
        audio: an audio file.
        sha256: those of these files whose content the row tells, each with its SHA-256.
    """

    video: Path | None
    frames: Path | None
    audio: Path | None
    sha256: tuple[tuple[Path, str], ...] = ()

    @property
    def files(self) -> int:
        """How many of them are given."""
        return sum(path is not None for path in (self.video, self.frames, self.audio))


@dataclass(frozen=True, slots=True)
class Entry:
    """A usable row.

    Attributes:
        row: the row.
        clip: id of its clip.
        split: `train`, `val` or `test`.
        source: id of the recording, "" where none is given.
        media: where its media are.
        segments: value of the `segments` column, None where it is empty.
        events, audio_events, visual_events: those of the columns; None where there is no such column, and in rows for
            training that have labels and no events at all: those were not looked for.
        labels: weak classes; None where there is no such column.
        masks: folder of masks; None where there is none.
    """

    row: Row
    clip: str
    split: str
    source: str
    media: Media
    segments: int | None
    events: tuple[Span, ...] | None
    audio_events: tuple[Span, ...] | None
    visual_events: tuple[Span, ...] | None
    labels: tuple[str, ...] | None
    masks: Path | None

    @property
    def spans(self) -> tuple[Span, ...]:
        """Every event."""
        return (*(self.events or ()), *(self.audio_events or ()), *(self.visual_events or ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Every class that it names, once."""
        return tuple(dict.fromkeys([*(span.name for span in self.spans), *(self.labels or ())]))


class BadRow(Exception):
    """A row that cannot be used.

    Args:
        kind: kind of the finding.
        what: what is wrong.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(kind, what)
        self.kind, self.what = kind, what

    def finding(self, row: Row) -> Finding:
        """What is said of the row."""
        shown = ",".join(row.values.values())
        return Finding(self.kind, row.where, self.what, f"row left out: {shown[:200]!r}")


class RowReader:
    """Reads the rows of a table, one after the other: ids must be unique, but for questions about one clip.

    Args:
        table: the table.
        task: what is to be learned; columns of other tasks are not read.
        classes: the only classes that there may be; empty for any.
    """

    def __init__(self, table: Table, task: str, classes: Collection[str]) -> None:
        self._columns, self._task, self._classes = table.columns, task, classes
        self._base = table.path.parent
        self._known: dict[str, tuple[Media, str]] = {}

    def read(self, row: Row) -> Entry:
        """The row's entry.

        Raises:
            BadRow: it cannot be used.
        """
        clip, media = self._clip(row), self._media(row)
        if row["split"] not in SPLITS:
            raise BadRow("unknown-split", str(unknown_name("split", row["split"], SPLITS)))
        labels = row["labels"] if self._task == "parsing" and "labels" in self._columns else None
        weak = row["split"] == "train" and bool(labels) and not any(row[column] for column in _DENSE)
        entry = Entry(
            row,
            clip,
            row["split"],
            row["source"],
            media,
            self._segments(row),
            None if weak else self._events(row, "events", "events", "parsing"),
            None if weak else self._events(row, "audio_events", "parsing"),
            None if weak else self._events(row, "visual_events", "parsing"),
            None if labels is None else tuple(dict.fromkeys(filter(None, map(str.strip, labels.split(";"))))),
            self._base / row["masks"] if self._task == "segmentation" and row["masks"] else None,
        )
        self._check_classes([*entry.names, *([row["answer"]] if self._task == "qa" else [])])
        self._remember(entry)
        return entry

    def _clip(self, row: Row) -> str:
        name = row["clip"]
        # Ids are parts of paths in caches, predictions and pictures, and one line of many texts.
        broken = any(unicodedata.category(character) in _UNFIT for character in name)
        if broken or any(part in ("", ".", "..") for part in name.split("/")):
            raise BadRow("bad-id", f"{shown(name)} cannot be a clip's id" if name else "the clip has no id")
        return name

    def _media(self, row: Row) -> Media:
        paths = {column: row[column] for column in ("media", "frames", "audio")}
        if not any(paths.values()):
            raise BadRow("broken-row", "no media: all of media, frames and audio are empty")
        masks = row["masks"] if self._task == "segmentation" else ""
        for column, text in {**paths, "masks": masks}.items():
            if not _can_be_path(self._base / text):
                raise BadRow("broken-row", f"{column} is no path: {text[:80]!r}")
            if _ADDRESS.match(text):
                raise BadRow("broken-row", f"{column} is an address, {text[:80]!r}: nothing is fetched, name a file")
        found = {column: self._base / text if text else None for column, text in paths.items()}
        told = tuple((path, self._sha256(row, name)) for name, path in found.items() if path and row[f"{name}_sha256"])
        for name in ("media", "audio"):
            if row[f"{name}_sha256"] and found[name] is None:
                raise BadRow("broken-row", f"{name}_sha256 is given, and {name} is not")
        return Media(found["media"], found["frames"], found["audio"], told)

    def _sha256(self, row: Row, name: str) -> str:
        text = row[f"{name}_sha256"]
        if not DIGEST.fullmatch(text):
            raise BadRow(BAD, f"{name}_sha256 is {shown(text)}, expected 64 hexadecimal digits")
        return text.lower()

    def _segments(self, row: Row) -> int | None:
        text = row["segments"]
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            number = 0.5
        if not (number.is_integer() and 1 <= number <= MOST_SEGMENTS):
            raise BadRow("broken-row", f"segments is {shown(text)}, expected a whole number above 0")
        return int(number)

    def _events(self, row: Row, column: str, *tasks: str) -> tuple[Span, ...] | None:
        if self._task not in tasks or column not in self._columns:
            return None
        spans = parse(row[column])
        if isinstance(spans, str):
            raise BadRow("bad-event", spans)
        return spans

    def _check_classes(self, names: Collection[str]) -> None:
        if self._task == "qa" and not all(names):
            raise BadRow("broken-row", "the question has no answer")
        for name in names:
            if self._classes and name not in self._classes:
                raise BadRow("unknown-class", str(unknown_name("class", name, self._classes)))

    def _remember(self, entry: Entry) -> None:
        """Refuses an id that is taken."""
        media, where = self._known.setdefault(entry.clip, (entry.media, entry.row.where))
        if where == entry.row.where:
            return
        if self._task != "qa":
            raise BadRow("duplicate-id", f"clip {entry.clip!r} is in {where} already")
        if media != entry.media:
            raise BadRow("duplicate-id", f"clip {entry.clip!r} has other media, or other checksums, in {where}")


def _can_be_path(path: Path) -> bool:
    """Whether the system takes it for a path at all; one that it does not stops more than its own row."""
    long_part = any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts)
    return "\0" not in str(path) and not long_part and len(os.fsencode(path)) < _LONGEST_PATH
