"""Damage to copies of small datasets, as a bad disk, a half-finished download or a wrong unzip does it."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 12345\n"
HTML = "<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n"


def text(content: str) -> Callable[[Path], None]:
    """Puts a text in place of the file."""
    return lambda path: path.write_text(content) and None


def content(data: bytes) -> Callable[[Path], None]:
    """Puts bytes in place of the file."""
    return lambda path: path.write_bytes(data) and None


def cut(share: float) -> Callable[[Path], None]:
    """Keeps a share of the file."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)]) and None


def overwrite(start: float, stop: float, byte: bytes | None = b"\0") -> Callable[[Path], None]:
    """Overwrites the bytes between two shares of the file: with one byte, or with noise."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        a, b = int(start * len(data)), int(stop * len(data))
        data[a:b] = np.random.default_rng(0).bytes(b - a) if byte is None else byte * (b - a)
        path.write_bytes(data)

    return change


def flip(path: Path) -> None:
    """Flips one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def folder(path: Path) -> None:
    """Puts a folder in place of the file."""
    path.unlink()
    path.mkdir()


def dead_link(path: Path) -> None:
    """Puts a link to nowhere in place of the file."""
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def other_case(path: Path) -> None:
    """Writes the ending of the name in capitals."""
    path.rename(path.with_suffix(path.suffix.upper()))


def nested(path: Path) -> None:
    """Moves the file one folder down, as an archive within an archive does."""
    inner = path.parent / path.parent.name
    inner.mkdir(exist_ok=True)
    path.rename(inner / path.name)


def beside(name: str, data: bytes = b"something") -> Callable[[Path], None]:
    """Puts another file beside it; `{name}` and `{stem}` are those of the file."""
    return lambda path: (path.parent / name.format(name=path.name, stem=path.stem)).write_bytes(data) and None


def no_index(path: Path) -> None:
    """Takes the moov box out of an mp4, as a recording that was never closed."""
    data, at, kept = path.read_bytes(), 0, b""
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        kept += b"" if data[at + 4 : at + 8] == b"moov" else data[at : at + size]
        at += size
    path.write_bytes(kept)


def remux(kinds: tuple[str, ...], seconds: float = 1e9) -> Callable[[Path], None]:
    """Keeps some tracks of a video, and their packets up to some second."""

    def change(path: Path) -> None:
        import av

        made = path.with_suffix(".new.mp4")
        with av.open(str(path)) as source, av.open(str(made), "w") as target:
            streams = {s.index: target.add_stream_from_template(s) for s in source.streams if s.type in kinds}
            for packet in source.demux([source.streams[index] for index in streams]):
                if packet.size and float(packet.pts * packet.time_base) < seconds:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
        made.replace(path)

    return change


def sound(seconds: float, level: int = 1000) -> Callable[[Path], None]:
    """Puts another wav in its place: 16 kHz, mono; silent at level 0."""

    def change(path: Path) -> None:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            count = round(16_000 * seconds)
            file.writeframes((level * np.sin(np.arange(count))).astype("<i2").tobytes())

    return change


def not_a_number(path: Path) -> None:
    """Puts a wav of floats in its place, one of which is no number."""
    import soundfile

    samples = np.sin(np.arange(80_000, dtype=np.float32))
    samples[40_000] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


def jpeg(path: Path) -> None:
    """Saves a picture as JPEG under its old name, once it has an edge that JPEG does not keep."""
    with Image.open(path) as image:
        grey = np.array(image.convert("L"))
    grey[20:60, 30:70] = 255 - grey[20:60, 30:70]
    Image.fromarray(grey).save(path, format="JPEG", quality=60)


def picture(
    size: tuple[int, int] | None = None, value: int | None = None, mode: str | None = None
) -> Callable[[Path], None]:
    """Changes a picture: its size, the value of its first 5 x 5 pixels, its Pillow mode."""

    def change(path: Path) -> None:
        with Image.open(path) as image:
            image.load()
            changed: Image.Image = image
        if size is not None:
            changed = changed.resize(size, Image.Resampling.NEAREST)
        if mode is not None:
            changed = changed.convert(mode)
        if value is not None:
            changed.paste(value, (0, 0, 5, 5))
        changed.save(path)

    return change
