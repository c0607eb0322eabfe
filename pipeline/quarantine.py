"""Clips that could not be used, as the ledger tells of them: when they failed, with which decoders, and why.

The commit records are the truth. The table `quarantine.parquet` (see `quarantine_table`) says the same for other
programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from avpipe.pipeline.cache.ledger_facts import LedgerFacts
from avpipe.pipeline.cache.records import Quarantined
from avpipe.pipeline.errors import UsageError, unknown_name

STAGES = {
    "manifest": "the dataset does not have it any more",
    "probe": "a file is missing, is no media file, is not the one that was meant, or does not tell what is in it",
    "frames": "its pictures are missing, damaged, or not when they should be",
    "audio": "so is its sound",
    "decode": "the process that decoded it died, took too long or too much memory, or failed as no decoder should",
    "features": "features that were to be imported are missing or cannot be used",
}
"""Where a clip can fail, and what that is about."""

_STANDS_FOR = (
    re.compile(r"^/.*?(?=: )"),  # a path in front of what is wrong with it; it may hold spaces
    re.compile(r"(?<!\w)(?:'[^']*'|\"[^\"]*\")(?!\w)"),  # names
    re.compile(r"(?<![^\s(])/[^\s:;,)]+"),  # other paths
    re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*\d)[0-9a-f]{8,})\b"),  # addresses, hashes
    re.compile(r"(?<!\w)[-+]?\d+(?:[.,:x]\d+)*(?!\w)"),  # numbers
)
_LIST = re.compile(r"\*(?:(?:,? and |, |,| |x)\*)+")


@dataclass(frozen=True)
class Entry:
    """A quarantined clip.

    Attributes:
        clip: the clip's id, as the ledger has it.
        dataset: name of the dataset that the cache was begun with.
        stage: where it failed, one of `STAGES`.
        reason: what is wrong.
        hint: what to do.
        attempts: how often it has failed.
        first_failed, last_failed: when, UTC; since it was last sound, if it ever was.
        unit: the unit that it failed in last.
        files: its media files, relative to the dataset's folder where they lie in it; empty where nobody told.
        versions: decoders that were installed, and their versions; what else its provenance says.
    """

    clip: str
    dataset: str
    stage: str
    reason: str
    hint: str
    attempts: int
    first_failed: datetime
    last_failed: datetime
    unit: int
    files: tuple[str, ...] = ()
    versions: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        """The reason without names and numbers."""
        return kind_of(self.reason)

    def as_json(self) -> dict[str, Any]:
        """JSON-ready members; times in ISO 8601."""
        times = {name: _iso(getattr(self, name)) for name in ("first_failed", "last_failed")}
        others = {"kind": self.kind, "files": list(self.files), "versions": dict(self.versions or {})}
        return {**vars(self), **times, **others}


Failed = TypeVar("Failed", Entry, Quarantined)


@dataclass(frozen=True)
class Kind(Generic[Failed]):
    """Clips that failed alike.

    Attributes:
        stage: where.
        kind: the reason without names and numbers.
        entries: the clips, at least one.
    """

    stage: str
    kind: str
    entries: tuple[Failed, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-ready members, with one reason as an example."""
        first = self.entries[0]
        members = {"stage": self.stage, "kind": self.kind, "clips": len(self.entries)}
        return {**members, "example": first.reason, "hint": first.hint}


def entries_of(ledger: LedgerFacts, dataset: str, files: Mapping[str, Sequence[str]] | None = None) -> list[Entry]:
    """Every clip whose last word in a ledger is a rejection, by unit and id.

    Args:
        ledger: the ledger, fresh.
        dataset: name of the cache's dataset.
        files: files by clip id, as far as they are known.
    """
    words = ledger.quarantined()
    times = _times(ledger, {word.clip for word in words})
    return [
        Entry(
            clip=word.clip,
            dataset=dataset,
            stage=word.stage,
            reason=word.reason,
            hint=word.hint,
            attempts=word.attempts,
            first_failed=times[word.clip][0],
            last_failed=times[word.clip][-1],
            unit=word.unit,
            files=tuple((files or {}).get(word.clip, ())),
            versions=dict(word.provenance),
        )
        for word in words
    ]


def _times(ledger: LedgerFacts, clips: set[str]) -> dict[str, list[datetime]]:
    """When some clips failed, since they were last committed, in the order in which the ledger counts."""
    found: dict[str, list[datetime]] = {}
    if not clips:
        return found
    for _, records in sorted(ledger.records.items()):
        for record in records:
            for clip in () if record.repairs else record.clips:
                if clip.id in clips:
                    found.pop(clip.id, None)
            for entry in record.quarantined:
                if entry.clip in clips:
                    found.setdefault(entry.clip, []).append(datetime.fromtimestamp(record.committed, UTC))
    return found


def kinds(entries: Iterable[Failed]) -> list[Kind[Failed]]:
    """Clips grouped by where and why they failed, the most common first."""
    groups: dict[tuple[str, str], list[Failed]] = {}
    for entry in entries:
        groups.setdefault((entry.stage, kind_of(entry.reason)), []).append(entry)
    found = [Kind(stage, kind, tuple(group)) for (stage, kind), group in groups.items()]
    return sorted(found, key=lambda group: (-len(group.entries), group.stage, group.kind))


def kind_of(reason: str) -> str:
    """A reason with `*` for paths, quoted names, hashes and numbers."""
    for pattern in _STANDS_FOR:
        reason = pattern.sub("*", reason)
    return _LIST.sub("*", reason)


def select(entries: Sequence[Entry], *, stage: str | None = None, reason: str | None = None) -> list[Entry]:
    """The entries of one stage, or whose reason holds a text (in any case).

    Raises:
        UsageError: there is no such stage.
    """
    stages = {*STAGES, *(entry.stage for entry in entries)}
    if stage is not None and stage not in stages:
        raise unknown_name("stage", stage, stages)
    text = (reason or "").casefold()
    return [e for e in entries if stage in (None, e.stage) and text in e.reason.casefold()]


def named(entries: Sequence[Entry], clips: Sequence[str], cached: Iterable[str]) -> list[Entry]:
    """The entries of some clips, each once, in the order given.

    Args:
        entries: what is quarantined.
        clips: ids.
        cached: ids of clips that are sound, for a better message.

    Raises:
        UsageError: one is not quarantined; with the nearest id that is.
    """
    known = {entry.clip: entry for entry in entries}
    for clip in clips:
        if clip not in known and clip in set(cached):
            raise UsageError(f"clip {clip!r} is not quarantined: the cache has it")
        if clip not in known:
            raise unknown_name("quarantined clip", clip, known, listing="`avpipe quarantine ls` lists them")
    return [known[clip] for clip in dict.fromkeys(clips)]


def readable(value: Any) -> Any:
    """A JSON-ready value whose texts any program can read: names of files need not be valid UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {readable(key): readable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [readable(each) for each in value]
    return value


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
