"""Pictures: frames by their headers and checksums, masks pixel by pixel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from avpipe.pipeline.datasets.check.broken import Broken
from avpipe.pipeline.datasets.check.jpegs import check_markers

if TYPE_CHECKING:
    from PIL.Image import Image

_TAIL_BYTES = 4096
_PNG_END = b"IEND"
_MASK_MODES = ("1", "L", "P", "RGB", "RGBA", "LA")
_MOST_COLOURS = 300


def look_at_picture(path: Path) -> dict[str, Any]:
    """Reads a frame's header and checks its bytes, without decoding its pixels.

    Returns:
        `size`, `format` (Pillow's name) and `hash`.

    Raises:
        Broken: `truncated` or `damaged`.
    """
    from PIL.Image import open as open_picture

    data = path.read_bytes()
    try:
        with open_picture(io.BytesIO(data)) as picture:
            size, format_name = list(picture.size), picture.format
            _check_end(data, picture)
            picture.verify()
    except Broken:
        raise
    except Exception as error:  # Pillow raises whatever its plugins do
        raise Broken("damaged", f"not a readable picture ({_short(error)})") from error
    return {"size": size, "format": format_name, "hash": xxhash.xxh3_128_hexdigest(data)}


def look_at_mask(path: Path) -> dict[str, Any]:
    """Decodes a mask.

    Returns:
        `size`; `format` (Pillow's name); `values`, those that its pixels hold (palette index where it has a palette,
        grey of colours); `colours` where it is a picture of colours, as [red, green, blue], some hundreds at most.

    Raises:
        Broken: `truncated`, `damaged`, or `mask-mode` where it is of a kind that is no mask.
    """
    from PIL.Image import open as open_picture

    data = path.read_bytes()
    try:
        with open_picture(io.BytesIO(data)) as picture:
            _check_end(data, picture)
            picture.verify()  # the checksums, which decoding passes over
        with open_picture(io.BytesIO(data)) as picture:
            picture.load()
            if picture.mode not in _MASK_MODES:
                raise Broken("mask-mode", f"a picture of Pillow's mode {picture.mode!r}, no mask of 8 bits")
            facts: dict[str, Any] = {"size": list(picture.size), "format": picture.format}
            grey: Image = picture
            if picture.mode in ("RGB", "RGBA", "LA"):
                colours: Any = picture.convert("RGB").getcolors(picture.width * picture.height)
                facts["colours"] = sorted(list(colour) for _, colour in colours)[:_MOST_COLOURS]
                grey = picture.convert("L")
            facts["values"] = [value for value, count in enumerate(grey.histogram()) if count]
    except Broken:
        raise
    except Exception as error:  # Pillow raises whatever its plugins do
        raise Broken("damaged", f"not a readable picture ({_short(error)})") from error
    return facts


def _check_end(data: bytes, picture: Image) -> None:
    if picture.format == "PNG" and _PNG_END not in data[-_TAIL_BYTES:]:
        raise Broken("truncated", "cut short: the PNG has no end")
    if picture.format in ("JPEG", "MPO"):
        check_markers(data, picture.width * picture.height)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
