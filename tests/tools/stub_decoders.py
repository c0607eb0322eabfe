"""Decoders that do what the name of a clip says: crash, hang, swell, raise, or answer with something else.

`decode` takes the trouble from the clip's id; `decode_media` from what follows `--` in the id, and decodes other clips
for real. Children import this module, so both may be given to a `DecodePool`.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking, InputRejected
from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.decode import DecodedClip, MediaSpec, decode_clip

KEPT = []
"""What a decoder that leaks does not let go of."""


class Odd(BaseException):
    """No Exception, and nothing that could be pickled or printed."""

    def __init__(self):
        self.held = socket.socket()

    def __str__(self):
        raise RuntimeError("no words")


def decode(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """A grey clip, unless the clip's id names a trouble."""
    name = clip.id
    if name in TROUBLES:
        answer = TROUBLES[name](clip, spec)
        if answer is not None:
            return answer
    return grey(clip, spec)


def decode_media(clip: Clip, spec: MediaSpec) -> DecodedClip:
    """The clip itself, unless its id names a trouble behind `--`."""
    trouble = TROUBLES.get(clip.id.rpartition("--")[2])
    answer = trouble(clip, spec) if trouble else None
    return decode_clip(clip, spec) if answer is None else answer


def grey(clip: Clip, spec: MediaSpec, **parts) -> DecodedClip:
    """What `spec` wants of a clip, with the parts that are given in place of the right ones."""
    count, modalities = clip.segments, {"visual": spec.frame_size is not None, "audio": spec.audio}
    frames = None if spec.frame_size is None else np.full((count, *spec.frame_size, 3), os.getpid() % 251, np.uint8)
    samples = np.ones((count, spec.timeline.samples_per_segment), np.int16) if spec.audio else None
    whole = {"frames": frames, "samples": samples, "provenance": {"pid": str(os.getpid())}, "seconds": 0.0}
    whole["masks"] = {name: np.ones(count, bool) for name, wanted in modalities.items() if wanted}
    return DecodedClip(**{**whole, **parts})


def raises(error):
    def trouble(clip, spec):
        raise error

    return trouble


def _hang_in_re(clip, spec):
    re.match("(a+)+b", "a" * 60)  # years, holding the GIL


def _swell(clip, spec):
    for _ in range(160):
        KEPT.append(np.empty(2**23))  # 10 GB in all


def _swell_in_c(clip, spec):
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.memset.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    for _ in range(160):
        libc.memset(libc.malloc(2**26), 1, 2**26)  # what malloc refuses is written to all the same


def _leak(clip, spec):
    with clip.video.open("a") as tried:
        tried.write(".")
    KEPT.append(np.empty(5 * 2**20))  # 40 MB


def _fork(clip, spec):
    os.fork()


def _crash_once(clip, spec):
    with clip.video.open("a") as tried:
        tried.write(".")
    if clip.video.stat().st_size == 1:
        ctypes.string_at(0)


def _start_another(clip, spec):
    process = subprocess.Popen(["sleep", "1000"])
    clip.video.write_text(str(process.pid))
    time.sleep(1000)


def _note_and_hang(clip, spec):
    clip.video.with_suffix(".hangs").touch()
    ctypes.PyDLL(None).sleep(1000)


def _say(data: bytes) -> None:
    os.write(int(sys.argv[1]), data)


def _half_answer() -> None:
    _say(b"avpA" + (1_000_000).to_bytes(4, "big") + b'{"begun": ')


def _half_then_exit(clip, spec):
    _half_answer()
    os._exit(3)


def _half_then_stop(clip, spec):
    _half_answer()
    os.kill(os.getpid(), signal.SIGSTOP)


def _half_then_trickle(clip, spec):
    _half_answer()
    while True:
        time.sleep(0.2)
        _say(b"more")


def _short(clip, spec):
    whole = grey(clip, spec)
    return grey(clip, spec, frames=whole.frames[:-1] if clip.segments > 1 else whole.frames[:, :-1])


TROUBLES = {
    "segfault": lambda clip, spec: ctypes.string_at(0),
    "abort": lambda clip, spec: os.abort(),
    "exit": lambda clip, spec: os._exit(3),
    "killed": lambda clip, spec: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda clip, spec: time.sleep(1000),
    "hang-with-gil": lambda clip, spec: ctypes.PyDLL(None).sleep(1000),
    "hang-without-gil": lambda clip, spec: ctypes.CDLL(None).sleep(1000),
    "note-and-hang": _note_and_hang,
    "hang-in-re": _hang_in_re,
    "hang-in-open": lambda clip, spec: clip.video.open("rb"),
    "stop": lambda clip, spec: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": raises(ValueError("odd thing,\nin two lines")),
    "raise-at-length": raises(ValueError("x" * 10_000)),
    "system-exit": raises(SystemExit(5)),
    "interrupt": raises(KeyboardInterrupt()),
    "odd": lambda clip, spec: raises(Odd())(clip, spec),
    "reject": raises(InputRejected("bad bytes", stage="frames", hint="fetch it again")),
    "lacking": raises(EnvironmentLacking("no decoder here")),
    "swell": _swell,
    "swell-at-once": lambda clip, spec: np.empty(10 * 2**30, np.uint8),
    "swell-in-c": _swell_in_c,
    "leak": _leak,
    "garbage": lambda clip, spec: _say(b"HTTP/1.1 200 OK\r\n"),
    "closed": lambda clip, spec: (os.close(int(sys.argv[1])), time.sleep(1000)),
    "half-then-exit": _half_then_exit,
    "half-then-stop": _half_then_stop,
    "half-then-trickle": _half_then_trickle,
    "fork": _fork,
    "start-another": _start_another,
    "no-clip": lambda clip, spec: {"frames": 1},
    "short": _short,
    "float": lambda clip, spec: grey(clip, spec, frames=np.full((clip.segments, *spec.frame_size, 3), np.nan)),
    "slow": lambda clip, spec: time.sleep(0.6),
    "noise": lambda clip, spec: os.write(2, b"a line of ours") and None,
    "crash-once": _crash_once,
}
"""What is done for a clip of this name. What it returns is the answer; for None the decoder goes on."""
