"""What runs in a decoder process: it takes clips from a socket and answers with their content or what is wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.lifetime import die_with
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media import wire
from avpipe.pipeline.media.answers import content_header, error_header
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec

Decode = Callable[[Clip, MediaSpec], DecodedClip]

DAMAGED_HINT = "damaged? play it once, or encode it again"
_MEMORY_HINT = "raise the memory limit, --decode-memory, or encode it smaller"
_RESERVE_BYTES = 64 << 20
"""Memory beyond the limit, with which a child can still say that it has none."""
_LONGEST_REASON = 500
_OOM_SCORE = "500"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a child is to do with every clip: run `decode` with `spec`, within `memory_limit_bytes` of data memory."""

    decode: Decode
    spec: MediaSpec
    memory_limit_bytes: int | None


def main(number: int, parent: int) -> None:
    """Serves one parent until it closes the socket.

    The socket brings Settings, then pairs of a serial number and a clip. The answer to a clip is that it is taken up,
    which starts its time, and then what became of it (`answers`).

    Args:
        number: file descriptor of the socket.
        parent: process id of the parent.
    """
    os.set_inheritable(number, False)
    channel, this = socket.socket(fileno=number), os.getpid()
    die_with(parent)
    with contextlib.suppress(wire.Closed, BrokenPipeError, ConnectionResetError):  # the parent has closed it
        settings: Settings = wire.receive_order(channel)
        _warm_up(settings.spec.decoder)
        _limit(settings.memory_limit_bytes)
        while True:
            serial, clip = wire.receive_order(channel)
            wire.send_answer(channel, {"serial": serial, "memory_bytes": _memory_bytes()})
            header, arrays = _answer(settings, clip)
            if os.getpid() != this:  # the decoder has forked, and this is the copy
                os._exit(0)
            header["memory_bytes"] = max(0, _memory_bytes() - sum(array.nbytes for array in arrays))
            wire.send_answer(channel, {**header, "serial": serial}, arrays)


def _answer(settings: Settings, clip: Clip) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        decoded = settings.decode(clip, settings.spec)
        if isinstance(decoded, DecodedClip):
            return content_header(decoded)
        what = f"returned {_name(decoded)}, not a decoded clip"
    except (InputRejected, EnvironmentLacking) as error:
        return error_header(error), []
    except MemoryError:
        _limit(settings.memory_limit_bytes, _RESERVE_BYTES)
        reason = f"{named(clip)}: not enough memory to decode it"
        rejected = InputRejected(reason, stage="decode", hint=_MEMORY_HINT)
        return {**error_header(rejected), "out_of_memory": True}, []
    except BaseException as error:  # SystemExit, KeyboardInterrupt and odder ones: none of them ends this loop
        what = _raised(error)
    return error_header(InputRejected(f"{named(clip)}: the decoder {what}", stage="decode", hint=DAMAGED_HINT)), []


def named(clip: Clip) -> str:
    """A clip and its first file, as reasons begin that no decoder could put into words."""
    return f"clip {clip.id!r}" + "".join(f" ({str(path)!r})" for path in clip.media()[:1])


def _raised(error: BaseException) -> str:
    """In one line, whatever the error does when it is asked."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(its message cannot be had)"
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + " ..."
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


def _name(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _warm_up(decoder: str) -> None:
    """Imports the decoders before a clip's time counts, and keeps their chatter about damaged files off stderr."""
    large = ("torchcodec",) if decoder == "torchcodec" else ()  # it brings torch with it
    for name in ("av", "decord", "soundfile", "PIL.Image", *large):
        with contextlib.suppress(ImportError, OSError, RuntimeError):  # a missing one is reported where it is needed
            module = import_module(name)
            if name == "av":
                module.logging.set_level(None)
            elif name == "decord":
                module.logging.set_level(module.logging.QUIET)


def _limit(memory_bytes: int | None, reserve_bytes: int = 0) -> None:
    """Limits this process: no core files, first in the row where the system runs out of memory, and data memory.

    Data memory is what malloc, mmap of private writable pages and the stacks of threads take.
    """
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if memory_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = memory_bytes + reserve_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


def _memory_bytes() -> int:
    """Data memory of this process as the limit counts it; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
