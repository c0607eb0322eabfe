"""A look at one file, alone: what is wrong with it, and the facts that only make sense beside those of other files.

Containers are opened by FFmpeg here, so this runs in a process that can be killed; see `looking.py`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.pipeline.datasets.check import images, packets, waves
from avpipe.pipeline.datasets.check.broken import Broken
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.files import check_file

VIDEO, AUDIO, PICTURE, MASK = "video", "audio", "picture", "mask"
"""Roles of files."""

_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    VIDEO: packets.look,
    AUDIO: waves.look,
    PICTURE: images.look_at_picture,
    MASK: images.look_at_mask,
}
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"Rar!": "a rar archive", b"7z\xbc\xaf": "a 7z archive"}
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one file.

    Attributes:
        kind: kind of what is wrong with it, empty where nothing is.
        what: the same in words.
        facts: by role: `seconds`, `video` and `audio` (lengths of tracks in seconds, None where there is none),
            `size` ([width, height] in pixels), `values` (of a mask), `silent`, `hash` (of the content).
    """

    kind: str = ""
    what: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def look(role: str, path: Path, quick: bool = False) -> Look:
    """Looks at one file that exists.

    Args:
        role: one of the roles.
        path: the file.
        quick: existence, size and first bytes only.
    """
    try:
        _refuse_what_is_no_media(path)
        return Look(facts={} if quick else _READERS[role](path))
    except Broken as broken:
        return Look(broken.kind, broken.what)


def _refuse_what_is_no_media(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise Broken("unreadable", (error.strerror or str(error)).lower()) from error
    if not head:
        raise Broken("empty-file", "the file is empty (0 bytes)")
    if not head.strip(b"\0"):
        raise Broken("zero-filled", f"its first {len(head)} bytes are zero: a download or copy that did not finish")
    try:
        check_file(path, "check")
    except InputRejected as rejected:
        what = rejected.reason.removeprefix(f"{path}: ")
        if "pointer" in what:
            raise Broken("pointer-file", f"{what} ({rejected.hint})") from None
        page = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
        what = "an HTML page, not media" if page.startswith((b"<!doctype html", b"<html")) else what
        raise Broken("text-file", what) from None
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic) and not (path.suffix == ".npz" and zipfile.is_zipfile(path)):
            raise Broken("not-media", f"{name}, not media: unpack it")
    if head.startswith(_GZIP):
        raise Broken("not-media", "compressed by gzip: unpack it")
