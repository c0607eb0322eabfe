"""What is refused before any decoder sees it: files that are missing, empty, or plainly no media."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from avpipe.pipeline.errors import InputRejected

_HEAD_BYTES = 1024
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ANNEX_POINTER = "annex/objects"
_PICTURES = {b"\xff\xd8\xff": "a JPEG picture", b"\x89PNG\r\n": "a PNG picture", b"GIF8": "a GIF picture"}
_ARCHIVES = {
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
}
_TEXTS = {"#extm3u": "a playlist", "<!doctype html": "an HTML page", "<html": "an HTML page"}
_FRAMES_HINT = "pictures of a clip are named in the column `frames`"


def check_file(path: Path, stage: str, expected: str = "media") -> Path:
    """Refuses what cannot be media before any decoder sees it.

    Text is refused for the clear message; what looks like media, but is a script that names other files, is left to
    `container.open_media`.

    Args:
        path: the file.
        stage: stage named in the error.
        expected: what the file should hold.

    Returns:
        The absolute path: no decoder can take it for an option or for a protocol.

    Raises:
        InputRejected: the file is missing, unreadable, no regular file, empty, a version control pointer, or text.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # a folder says so itself
            what = "a named pipe" if stat.S_ISFIFO(status.st_mode) else "a device or a socket"
            raise InputRejected(f"{path}: no regular file but {what}", stage=stage, hint="put the file itself there")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        hint = "check the dataset's folder, or leave the clip out" if isinstance(error, FileNotFoundError) else ""
        if isinstance(error, IsADirectoryError) and stage == "probe":
            hint = _FRAMES_HINT
        raise InputRejected(f"{path}: {(error.strerror or str(error)).lower()}", stage=stage, hint=hint) from error
    size_bytes = status.st_size
    if size_bytes == 0:
        raise InputRejected(f"{path}: the file is empty (0 bytes)", stage=stage, hint="fetch it again")
    if head.startswith(_LFS_POINTER) or (_is_text(head) and _ANNEX_POINTER in head.decode(errors="replace")):
        raise InputRejected(
            f"{path}: a {size_bytes}-byte pointer, not the file itself",
            stage=stage,
            hint="fetch the content: `git lfs pull` or `git annex get`",
        )
    if _is_text(head):
        start = head.decode(errors="replace").lstrip("\ufeff \t\r\n").lower()
        kind = next((f" ({name})" for sign, name in _TEXTS.items() if start.startswith(sign)), "")
        hint = "put the media themselves there" if "playlist" in kind else "a failed download? fetch it again"
        raise InputRejected(f"{path}: a text file{kind}, not {expected}", stage=stage, hint=hint)
    return Path(os.path.abspath(path))  # noqa: PTH100 (not resolve(): messages keep the name that the user knows)


def recognised(path: Path) -> tuple[str, str] | None:
    """What a file that FFmpeg does not open is, by its first bytes, and a hint; None where they do not tell."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip(b"\0"):
        return "it begins with zero bytes", "a download that did not finish? fetch it again"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP picture, not media", _FRAMES_HINT
    for kinds, hint in ((_PICTURES, _FRAMES_HINT), (_ARCHIVES, "put the media themselves there")):
        for sign, name in kinds.items():
            if head.startswith(sign):
                return f"{name}, not media", hint
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut at the end is no error
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)
