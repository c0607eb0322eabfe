"""What runs in a decoder process: it takes clips from a pipe and answers with their content, or with what is wrong."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from avpipe.pipeline.errors import AvpipeError, InputRejected
from avpipe.pipeline.lifetime import die_with
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec

Decode = Callable[[Clip, MediaSpec], DecodedClip]

DAMAGED_HINT = "damaged? play it once, or encode it again"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a child is to do with every clip: run `decode` with `spec`, within `memory_limit_bytes` of data memory."""

    decode: Decode
    spec: MediaSpec
    memory_limit_bytes: int | None


def main(pipe_number: int, parent: int) -> None:
    """Serves one parent until it closes the pipe.

    The pipe brings Settings, then clips. The answer to a clip is None when it is taken up, which starts its time, and
    then a DecodedClip or an AvpipeError.

    Args:
        pipe_number: file descriptor of the pipe.
        parent: process id of the parent.
    """
    pipe = Connection(pipe_number)
    die_with(parent)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed it
        settings: Settings = pipe.recv()
        _warm_up()
        _limit_memory(settings.memory_limit_bytes)
        while True:
            clip = pipe.recv()
            pipe.send(None)
            pipe.send(_answer(settings, clip))


def _answer(settings: Settings, clip: Clip) -> DecodedClip | AvpipeError:
    try:
        return settings.decode(clip, settings.spec)
    except AvpipeError as error:
        return error
    except MemoryError:
        reason, hint = "not enough memory to decode it", "raise the memory limit, or encode it smaller"
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        reason, hint = f"the decoder raised {type(error).__name__}: {error} ({where})", DAMAGED_HINT
    return InputRejected(f"clip {clip.id!r}: {reason}", stage="decode", hint=hint)


def _warm_up() -> None:
    """Imports the decoders before a clip's time counts, and keeps their chatter about damaged files off stderr."""
    for name in ("av", "decord", "soundfile", "PIL.Image"):
        with contextlib.suppress(ImportError, OSError):  # a missing one is reported where it is needed
            module = import_module(name)
            if name == "av":
                module.logging.set_level(None)
            elif name == "decord":
                module.logging.set_level(module.logging.QUIET)


def _limit_memory(limit_bytes: int | None) -> None:
    if limit_bytes is not None and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
