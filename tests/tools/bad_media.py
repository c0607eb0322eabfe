"""A dataset of small clips of which some are bad, in as many ways as there are kinds, and what must become of each."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

import av
import numpy as np
from PIL import Image

TOOLS = Path(__file__).parent
STUBBED = {"PYTHONPATH": str(TOOLS / "stubbed")}
"""Environment of a process whose decoders do what a clip's name says behind `--`."""


@dataclass(frozen=True)
class Bad:
    """A kind of bad clip: how its file is made from a good one, and how it must be named."""

    stage: str
    reason: str
    make: Callable[[Path, bytes], object] = Path.write_bytes


def _without(kind: str) -> Callable[[Path, bytes], object]:
    def make(path: Path, good: bytes) -> None:
        path.write_bytes(_stripped(good, kind))

    return make


@cache
def _stripped(good: bytes, kind: str) -> bytes:
    """A clip without its streams of one kind."""
    out = io.BytesIO()
    with av.open(io.BytesIO(good)) as source, av.open(out, "w", format="mp4") as target:
        kept = [stream for stream in source.streams if stream.type != kind]
        streams = {stream.index: target.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(kept):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def _zeroed(path: Path, good: bytes) -> None:
    begin = good.index(b"mdat") + 4
    middle = (begin + len(good)) // 2 if good.index(b"moov") < begin else (begin + good.index(b"moov")) // 2
    path.write_bytes(good[:begin] + bytes(middle - begin) + good[middle:])


def _picture(path: Path, good: bytes) -> None:
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(path, format="png")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
BAD = {
    "empty": Bad("probe", "the file is empty", lambda path, good: path.write_bytes(b"")),
    "text": Bad("probe", "a text file", lambda path, good: path.write_text("<html>404 not found</html>\n" * 50)),
    "pointer": Bad("probe", "pointer, not the file itself", lambda path, good: path.write_bytes(POINTER)),
    "cut": Bad("probe", "FFmpeg cannot open it", lambda path, good: path.write_bytes(good[: len(good) // 2])),
    "noise": Bad("probe", "FFmpeg cannot open it", lambda path, good: path.write_bytes(bytes(range(256)) * 64)),
    "picture": Bad("probe", "a PNG picture, not media", _picture),
    "folder": Bad("probe", "directory|no regular file|not a file", lambda path, good: path.mkdir()),
    "fifo": Bad("probe|decode", "not a file|no regular file|no answer", lambda path, good: os.mkfifo(path)),
    "missing": Bad("probe", "no such file", lambda path, good: None),
    "deaf": Bad("audio", "no audio track", _without("audio")),
    "blind": Bad("frames", "no video track", _without("video")),
    "zeroed": Bad("frames|audio", "", _zeroed),
    "stub--segfault": Bad("decode", r"died \(signal 11, SIGSEGV\)"),
    "stub--abort": Bad("decode", r"died \(signal 6, SIGABRT\)"),
    "stub--exit": Bad("decode", r"died \(exit status 3\)"),
    "stub--hang-with-gil": Bad("decode", "no answer from the decoder within"),
    "stub--swell-at-once": Bad("decode", "not enough memory"),
    "stub--raise": Bad("decode", "raised ValueError: odd thing"),
    "stub--odd": Bad("decode", "raised Odd"),
    "stub--short": Bad("decode", "gave what was not asked for"),
    "stub--float": Bad("decode", "gave what was not asked for"),
    "stub--garbage": Bad("decode", "gave what was not asked for"),
}
"""Kinds by name; clips are named `<number>-<kind>`."""


def kind_of(clip: str) -> str:
    """The kind of a bad clip; "" of a good one."""
    kind = clip.partition("-bad-")[2]
    return kind if kind in BAD else ""


def bad_names(count: int, kinds: Iterable[str] = BAD) -> list[str]:
    """Names of so many bad clips, of all kinds in turn."""
    return [f"{number:06d}-bad-{kind}" for number, kind in zip(range(count), cycle(kinds), strict=False)]


def write_dataset(root: Path, names: Iterable[str], goods: list[Path]) -> Path:
    """A dataset in AVE's layout; good clips are links to `goods` in turn, or to the one of their own name."""
    media = root / "AVE_Dataset" / "AVE"
    media.mkdir(parents=True)
    by_name, names = {path.stem: path for path in goods}, list(names)
    for number, name in enumerate(names):
        path, good = media / f"{name}.mp4", by_name.get(name, goods[number % len(goods)])
        if kind := kind_of(name):
            BAD[kind].make(path, good.read_bytes())
        else:
            os.link(good, path)
    rows = [f"Church bell&{name}&good&0&9\n" for name in names]
    (media.parent / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "".join(rows))
    for number, split in enumerate(("train", "val", "test")):
        (media.parent / f"{split}Set.txt").write_text("".join(rows[number::3]))
    return root
