"""The media of a user's own rows: which files are there, and how many segments each clip has.

The number of segments is that of the `segments` column, else of the cache that holds the clip, else of the media: the
length that the header declares, or one segment a picture where there are only pictures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.own_rows import MOST_SEGMENTS, Entry
from avpipe.pipeline.datasets.own_settings import OwnSettings
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.lengths import SILENT, lengths
from avpipe.pipeline.media.picture_folders import folder_fault
from avpipe.pipeline.media.pictures import in_time, numbered, one_per_segment

SOUNDS = (".wav", ".npy", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".opus", ".wma", ".mka")
"""Suffixes of files that have no pictures."""
_SPARE = "others stand in for it"


@dataclass(frozen=True, slots=True)
class Found:
    """The clip of a row.

    Attributes:
        clip: with its media.
        whole: segments of the media, of which the clip has the first.
        sure: whether `whole` is known; else it is a guess, as the media cannot be read.
    """

    clip: Clip
    whole: int
    sure: bool


def find_media(
    entries: Sequence[Entry], settings: OwnSettings, known: Mapping[str, int]
) -> tuple[dict[str, Found], list[Finding]]:
    """Clips of the entries by id, and what is wrong with their files.

    A clip whose only file is missing or cannot be read stays listed, so that its extraction says why it fails. One
    that has further files would be cached with a length that nobody knows: it is left out.

    Args:
        entries: usable rows; of several on one clip the first decides.
        settings: segment length, and the most segments of a clip.
        known: segments of clips that need not be measured.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.clip, entry)
    pictures = {clip: in_time(entry.media.frames) for clip, entry in first.items() if entry.media.frames}
    whole = {clip: _told(entry, settings, known, len(pictures.get(clip, ()))) for clip, entry in first.items()}
    measured = lengths([_measured(first[clip]) for clip, n in whole.items() if n is None and _speaks(first[clip])])
    clips: dict[str, Found] = {}
    findings = []
    for clip, entry in first.items():
        number, seconds = whole[clip], measured.get(clip)
        if isinstance(seconds, float):
            number = min(MOST_SEGMENTS, max(1, math.floor(seconds / settings.segment_seconds + 0.5)))
        listed = number is not None or (entry.media.files == 1 and not _is_silent(seconds))
        findings += _missing(entry, pictures.get(clip), listed)
        if isinstance(seconds, InputRejected):
            findings.append(_unmeasured(entry, seconds, listed))
        if listed:
            clips[clip] = _found(entry, number, pictures.get(clip), settings)
        if number and settings.segments and number > settings.segments:
            cut = f"clip {clip!r} has {number} segments, of which it keeps the first {settings.segments}"
            findings.append(Finding("cut-clip", entry.row.where, cut, level=NOTE))
    return clips, findings


def _missing(entry: Entry, pictures: tuple[Path, ...] | None, listed: bool) -> list[Finding]:
    """Files and folders of an entry that are not there."""
    media, where = entry.media, entry.row.where
    findings = []
    for path in (media.video, media.audio):
        if path and not path.is_file():
            what = f"{path} is a folder, not a file" if path.is_dir() else f"{path} is missing"
            spare = path == media.video and media.frames and media.audio
            findings.append(Finding("missing-file", where, what, _SPARE if spare and listed else _done(listed)))
    if media.frames and not pictures:
        findings.append(Finding("missing-file", where, f"{media.frames}: {folder_fault(media.frames)}", _done(listed)))
    return findings


def _done(listed: bool) -> str:
    return "the clip is listed, and its extraction will fail" if listed else "row left out: its length is not known"


def _speaks(entry: Entry) -> bool:
    """Whether the file that says an entry's length is there."""
    path = _measured(entry).video or _measured(entry).audio
    return path is not None and path.is_file()


def _is_silent(answer: float | InputRejected | None) -> bool:
    """Whether a file can be read, but does not say how long it is."""
    return isinstance(answer, InputRejected) and answer.stage == SILENT


def _told(entry: Entry, settings: OwnSettings, known: Mapping[str, int], pictures: int) -> int | None:
    """Segments of an entry's media without opening them, None where they have to be."""
    media, cap = entry.media, settings.segments
    if entry.segments is not None:
        return entry.segments
    if media.video is None and media.audio is None:
        return pictures or None
    number = known.get(entry.clip)
    if number is None or number != cap:
        return number
    # It may have been cut. What lies behind the cut decides which pictures are taken, and whether an event is too late.
    last = max((span.offset for span in entry.spans), default=0.0)
    return None if media.frames or last > (number + 0.5) * settings.segment_seconds else number


def _measured(entry: Entry) -> Clip:
    """The file that says how long an entry is: pictures with sound are as long as the sound."""
    media = entry.media
    if media.audio and (media.frames or media.video is None):
        return Clip(entry.clip, 1, audio=media.audio)
    return Clip(entry.clip, 1, video=media.video)


def _unmeasured(entry: Entry, error: InputRejected, listed: bool) -> Finding:
    if _is_silent(error):
        return Finding("unknown-length", entry.row.where, error.reason, "row left out: give it a value in `segments`")
    return Finding("unreadable-file", entry.row.where, error.reason, _done(listed))


def _guess(entry: Entry, settings: OwnSettings) -> int:
    """Segments of a clip whose media say nothing: what its labels speak of, or as many as a clip may have."""
    last = max((span.offset for span in entry.spans), default=0.0)
    masks = len(numbered(entry.masks)) if entry.masks else 0
    return min(MOST_SEGMENTS, max(masks, math.ceil(last / settings.segment_seconds))) or settings.segments or 1


def _found(entry: Entry, told: int | None, pictures: tuple[Path, ...] | None, settings: OwnSettings) -> Found:
    whole = told or _guess(entry, settings)
    segments = min(whole, settings.segments or whole)
    media, row = entry.media, entry.row
    frames = None
    if pictures is not None and media.frames is not None:
        frames = (one_per_segment(pictures, whole, settings.frame_position) or (media.frames,))[:segments]
    source = entry.source or os.path.normpath(row["media"] or row["frames"] or row["audio"])
    clip = Clip(entry.clip, segments, media.video, frames, media.audio, source, media.sha256)
    return Found(clip, whole, told is not None)
