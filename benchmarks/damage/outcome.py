"""What a reader made of a damaged file, against what it makes of the sound one."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from damage.clips import corruptions

OUTCOMES = ("unaffected", "sign", "sign, output right", "silent", "stopped")
"""`sign`: it raised, flagged damage, or says that the wrong part is absent, and the output is wrong or there is none;
`silent`: wrong output and none of these; `stopped`: it crashed or hung."""
LIMIT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader gave.

    Attributes:
        parts: one array for each second of the clip, None where the reader says that there is nothing.
        sign: what it raised or flagged, "" for nothing.
    """

    parts: list[npt.NDArray[np.generic] | None]
    sign: str = ""


Read = Callable[[Path], Reading]
Differ = Callable[[npt.NDArray[np.generic], npt.NDArray[np.generic]], bool]


def outcome(reading: Reading | None, sound: Reading, differ: Differ) -> str:
    """One of `OUTCOMES`; `reading` is None where the reader did not survive."""
    if reading is None:
        return "stopped"
    wrong = absent = len(reading.parts) != len(sound.parts)
    for part, right in zip(reading.parts, sound.parts, strict=False):
        if part is None:
            absent = absent or right is not None
        elif right is None or part.shape != right.shape or differ(part, right):
            wrong = True
    if reading.sign:
        return "sign" if wrong or absent else "sign, output right"
    if wrong:
        return "silent"
    return "sign" if absent else "unaffected"


def tally(
    read: Callable[[Path], Reading | None], source: Path, differ: Differ, seeds: Iterable[int], count: int = 60
) -> Counter[str]:
    """Counts what becomes of damaged copies of `source`, which lie beside it one after the other.

    Raises:
        ValueError: the sound file itself gives a sign.
    """
    sound = read(source)
    if sound is None or sound.sign or not any(part is not None for part in sound.parts):
        raise ValueError(f"{source}: the sound file cannot be read ({'it stopped' if sound is None else sound.sign})")
    copy = source.with_stem(f"{source.stem}-damaged")
    found: Counter[str] = Counter()
    for seed in seeds:
        for _, data in corruptions(source.read_bytes(), seed, count):
            copy.write_bytes(data)
            found[outcome(read(copy), sound, differ)] += 1
    copy.unlink(missing_ok=True)
    return found


def isolated(read: Read) -> Callable[[Path], Reading | None]:
    """`read` in a process of its own for each file: None where it crashes or takes longer than `LIMIT_SECONDS`."""
    context = multiprocessing.get_context("fork")

    def guarded(path: Path) -> Reading | None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(theirs, read, path))
        process.start()
        theirs.close()
        try:
            return ours.recv() if ours.poll(LIMIT_SECONDS) else None
        except EOFError:
            return None
        finally:
            process.kill()
            process.join()
            ours.close()

    return guarded


def _send(channel: Connection, read: Read, path: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # bare decoders print what is wrong
    channel.send(read(path))
