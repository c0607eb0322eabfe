"""`avpipe extract`, watched: a program for tests of several writers, run with the arguments of `avpipe`.

It is the real command. Around it, every clip that was computed is logged, and the process may stop itself (as by
SIGSTOP) once, at a named point. Environment:

    EXTRACT_LOG     file to append to: one JSON list a clip: process, unit, clip, arrays
    LEASE_SECONDS   another duration of leases
    STOP_BEFORE     a point of `POINTS`
    SLOW_MEDIA      if set, every clip is decoded late: see `slow_media.py`
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

from slow_media import decode_slowly

from avpipe.cli.main import run
from avpipe.pipeline.cache import durable, lease
from avpipe.pipeline.cache.unit import UnitWriter
from avpipe.stages import clip_media

POINTS = {
    "its lease is written": (lease.Leases, "_put"),
    "a clip is done": (UnitWriter, "clip_done"),
    "the unit is sealed": (UnitWriter, "seal"),
    "the record is put": (UnitWriter, "put_record"),
    "the record is linked": (durable, "link_and_remove"),
    "the unit is published": (UnitWriter, "publish"),
    "a file is renamed": (durable, "rename"),
}
"""Where a process may stop: before this method, or this function once the commit of a unit has begun."""


def _before(owner: object, name: str, action: Callable[[], None]) -> None:
    """Calls `action` before the next call of a method or function, once."""
    original = getattr(owner, name)

    def acting(*args, **options):
        setattr(owner, name, original)
        action()
        return original(*args, **options)

    setattr(owner, name, acting)


def _stop_before(owner: object, name: str) -> None:
    if owner is durable:
        _before(UnitWriter, "put_record", lambda: _before(durable, name, _stop))
    else:
        _before(owner, name, _stop)


def _stop() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to the process, this thread might run on for a moment


def _log_clips(path: str) -> None:
    original = UnitWriter.clip_done

    def logging(unit, clip, *args):
        line = json.dumps([os.getpid(), unit.work.unit, clip.id, [array.name for array in unit.work.arrays]])
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{line}\n".encode())
        os.close(log)
        return original(unit, clip, *args)

    UnitWriter.clip_done = logging


if __name__ == "__main__":
    lease.LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", lease.LEASE_SECONDS))
    lease.LOCK_SECONDS = min(lease.LOCK_SECONDS, lease.LEASE_SECONDS)
    _log_clips(os.environ["EXTRACT_LOG"])
    if point := os.environ.get("STOP_BEFORE"):
        _stop_before(*POINTS[point])
    if os.environ.get("SLOW_MEDIA"):
        clip_media.DecodePool = partial(clip_media.DecodePool, decode=decode_slowly)
    run()
