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
        raise InputRejected(
            f"{path}: a text file, not {expected}", stage=stage, hint="a failed download? fetch it again"
        )
    return Path(os.path.abspath(path))  # noqa: PTH100 (not resolve(): messages keep the name that the user knows)


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut at the end is no error
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r\f\ufeff" for character in text)
