"""Files compared with the SHA-256 that their dataset names for them, before any decoder sees them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.files import check_file

SHOWN = 16
"""Digits of a hash that a message shows; the whole has 64."""


def checked(clip: Clip, *, frames: bool, audio: bool) -> dict[str, str]:
    """Compares the files that a clip is about to be read from with their checksums, where it has any.

    Args:
        clip: the clip.
        frames: whether its pictures are wanted.
        audio: whether its sound is wanted.

    Returns:
        `sha256` with what was compared, such as `video`; empty where nothing was.

    Raises:
        InputRejected: (stage `probe`) a file is missing, or is another than its checksum says.
    """
    if not clip.sha256:
        return {}
    pictures, sound = clip.frames or (), clip.audio
    read = {
        "frames": pictures if frames else (),
        "audio": (sound,) if audio and sound else (),
        "video": (clip.video,) if clip.video and ((frames and not pictures) or (audio and not sound)) else (),
    }
    compared = []
    for name, paths in read.items():
        listed = [path for path in paths if _compare(clip, path)]
        if listed:
            compared.append(name if len(listed) == len(paths) else f"{len(listed)} of {len(paths)} {name}")
    return {"sha256": ", ".join(compared)} if compared else {}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal; read piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differs(found: str, expected: str) -> str:
    """Says that a file has another SHA-256 than expected."""
    return f"its SHA-256 is {found[:SHOWN]}..., and should be {expected[:SHOWN]}..."


def _compare(clip: Clip, path: Path) -> bool:
    """Whether a checksum is known for a file of the clip; raises where the content is another."""
    known = [digest for listed, digest in clip.sha256 if listed == path]
    if not known:
        return False
    try:
        found = sha256_of(check_file(path, "probe"))
    except OSError as error:
        raise InputRejected(f"{path}: {(error.strerror or str(error)).lower()}", stage="probe") from error
    for digest in known:
        if digest != found:
            raise InputRejected(
                f"{path}: {differs(found, digest)}",
                stage="probe",
                hint="fetch it again; where the checksum is wrong, mend that and run with --retry",
            )
    return True
