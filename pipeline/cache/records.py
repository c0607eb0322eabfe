"""What the ledger says: planned clips, commit records, quarantine entries, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avpipe.pipeline.cache.layout import ArraySpec


@dataclass(frozen=True)
class PlannedClip:
    """A clip and the rows that it has or will have.

    Attributes:
        id: the clip's id.
        start: its first row in every array.
        segments: its number of rows.
        signature: sizes and times of its media files, as the caller states them; a change makes a quarantined clip
            worth a retry.
    """

    id: str
    start: int
    segments: int
    signature: str = ""


@dataclass(frozen=True)
class UnitWork:
    """What is left to do in one unit; may be sent to another process.

    Attributes:
        unit: number of the unit.
        clips: clips to compute, by row.
        arrays: arrays to write: only those that the unit lacks.
    """

    unit: int
    clips: tuple[PlannedClip, ...]
    arrays: tuple[ArraySpec, ...]


@dataclass(frozen=True)
class Quarantined:
    """A clip that could not be used.

    Attributes:
        clip: the clip's id.
        stage: where it failed, one of `avpipe.pipeline.quarantine.STAGES`.
        reason: what is wrong.
        hint: what the user can do.
        signature: signature of its media files when it failed.
        attempts: how often it has failed, this time included.
        unit: unit it was planned in.
        provenance: decoder, library versions, device.
    """

    clip: str
    stage: str
    reason: str
    hint: str
    signature: str
    attempts: int
    unit: int
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CommittedClip:
    """A clip in one commit record.

    Attributes:
        id: the clip's id.
        start: first row.
        segments: number of rows.
        signature: signature of its media files.
        masks: modality -> one character a segment, `1` where there was media.
        provenance: decoder, library versions, device.
        content: sum of its content elements over the arrays of the record.
    """

    id: str
    start: int
    segments: int
    signature: str
    masks: Mapping[str, str]
    provenance: Mapping[str, str]
    content: int


@dataclass(frozen=True)
class CommittedFile:
    """A shard file in one commit record.

    Attributes:
        array: name of the array.
        temporary: where the writer left it, below `ledger/tmp`.
        path: where it belongs, below the cache.
        bytes: its size.
        xxh3_128: hash of the whole file, hexadecimal.
        stamp: the stamp that the file carries before its index, hexadecimal.
    """

    array: str
    temporary: str
    path: str
    bytes: int
    xxh3_128: str
    stamp: str

    def as_json(self) -> dict[str, Any]:
        """Members in the record."""
        return dict(vars(self))


@dataclass(frozen=True)
class Record:
    """One commit: clips, arrays and rejected clips of one unit. Immutable.

    Attributes:
        unit: number of the unit.
        sequence: 0 for the commit that fixes the unit's clips; later ones add arrays to them.
        writer: name of the writer.
        began: when the work on it began, seconds since 1970.
        committed: when it was written, seconds since 1970.
        work_seconds: seconds of work by stage.
        clips: clips that are complete in all arrays of the record.
        quarantined: clips that were rejected.
        files: one shard file per array; empty where every clip was rejected.
        repairs: the files take the place of earlier ones of the same arrays; the clips are those whose rows were made
            again, with the difference that this made to their `content`.
    """

    unit: int
    sequence: int
    writer: str
    began: float
    committed: float
    work_seconds: Mapping[str, float]
    clips: tuple[CommittedClip, ...]
    quarantined: tuple[Quarantined, ...]
    files: tuple[CommittedFile, ...]
    repairs: bool = False

    def as_json(self) -> dict[str, Any]:
        """Members of the record's document. Provenance is written once per distinct value."""
        table = _Table()
        clips = [
            {
                "id": c.id,
                "start": c.start,
                "segments": c.segments,
                "signature": c.signature,
                "masks": dict(c.masks),
                "provenance": table.index(c.provenance),
                "content": f"{c.content:032x}",
            }
            for c in self.clips
        ]
        quarantined = [
            {
                "clip": q.clip,
                "stage": q.stage,
                "reason": q.reason,
                "hint": q.hint,
                "signature": q.signature,
                "attempts": q.attempts,
                "provenance": table.index(q.provenance),
            }
            for q in self.quarantined
        ]
        return {
            "unit": self.unit,
            "sequence": self.sequence,
            "writer": self.writer,
            "began": self.began,
            "committed": self.committed,
            "work_seconds": dict(self.work_seconds),
            "clips": clips,
            "quarantined": quarantined,
            "files": [f.as_json() for f in self.files],
            "provenance": table.entries,
            **({"repairs": True} if self.repairs else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """From the members of the record's document; `KeyError`, `TypeError`, ... where they are not a record's."""
        known: Sequence[Mapping[str, str]] = content["provenance"]
        return cls(
            unit=content["unit"],
            sequence=content["sequence"],
            writer=str(content["writer"]),
            began=content["began"],
            committed=content["committed"],
            work_seconds=content["work_seconds"],
            clips=tuple(_clip(c, known) for c in content["clips"]),
            quarantined=tuple(_quarantined(q, known, content["unit"]) for q in content["quarantined"]),
            files=tuple(_file(f) for f in content["files"]),
            repairs=bool(content.get("repairs", False)),
        )


def _clip(content: Mapping[str, Any], known: Sequence[Mapping[str, str]]) -> CommittedClip:
    members = {**content, "provenance": known[content["provenance"]], "content": int(content["content"], 16)}
    return CommittedClip(**members)


def _file(content: Mapping[str, Any]) -> CommittedFile:
    file = CommittedFile(**content)
    texts = (file.array, file.temporary, file.path, file.xxh3_128, file.stamp)
    if not isinstance(file.bytes, int) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"a file with members of other types: {dict(content)}")
    return file


def _quarantined(content: Mapping[str, Any], known: Sequence[Mapping[str, str]], unit: int) -> Quarantined:
    return Quarantined(**{**content, "provenance": known[content["provenance"]], "unit": unit})


class _Table:
    """Distinct provenance values in order of first use."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []
        self._places: dict[frozenset[tuple[str, str]], int] = {}

    def index(self, value: Mapping[str, str]) -> int:
        place = self._places.setdefault(frozenset(value.items()), len(self.entries))
        if place == len(self.entries):
            self.entries.append(dict(value))
        return place
