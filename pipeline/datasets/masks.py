"""Reading masks: binary ones, and those of class ids, which are met as ids and as colours."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avpipe.pipeline.errors import UsageError

CLASSES = 71
"""Classes of AVSBench-semantic; ids are 0 to 70."""
_GREY = ("1", "L", "P", "RGB", "RGBA", "LA")
_COLOUR = ("RGB", "RGBA")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Reads a binary mask picture.

    Masks are met as 0 and 255, as 0 and 1, as 1-bit pictures and with a palette (then the palette index counts). The
    set of values decides: nothing above 1 means 0/1, else a pixel is on above 127. Pillow's own conversion to 1 bit
    dithers grey values, so it is not used.

    Args:
        path: a picture file.

    Returns:
        bool [H, W], True where the mask is on.

    Raises:
        UsageError: missing, not a picture, or of a kind that is no mask.
    """
    values = _grey(path)
    return values == 1 if values.max(initial=0) <= 1 else values > 127


def read_semantic_mask(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads a mask of class ids.

    Args:
        path: a grey picture or one with a palette, whose values are ids from 0 (`labels_semantic`), or a colour
            picture (`labels_rgb`), where a colour that is no class counts as background, as the authors do. A palette
            picture of nothing but colours of classes is read by its colours, which mean the same in either folder;
            not so where each of its colours is its index in grey, which is a grey picture once more.
        size: height and width to squash it to, each pixel from the nearest one by Pillow's rule, as the official loader
            does for validation and test; only pixels that are left are looked at. Default: as it is.

    Returns:
        uint8 [H, W], ids 0 to 70.

    Raises:
        UsageError: missing, not a picture, of a kind that is no such mask, or with values above 70.
    """
    picture = _open(path)
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], 0)  # nearest
    by_colour = _by_colour(picture)
    if by_colour is not None:
        return by_colour[0]
    ids = _ids(picture, path)
    if ids.max(initial=0) >= CLASSES:
        strays = ", ".join(map(str, np.unique(ids[ids >= CLASSES])[:5]))
        raise UsageError(f"mask {path} holds {strays}: class ids are 0 to {CLASSES - 1}; fetch the file again")
    return ids


def stray_values(path: Path, *, semantic: bool = False) -> tuple[int, ...]:
    """Values of a mask that mean nothing there.

    Args:
        path: a picture file.
        semantic: whether it is one of class ids.

    Returns:
        Ascending. Of a binary mask: values beyond 0 and 255, or beyond 0 and 1 where nothing is higher. Of one of class
        ids: values above 70, or colours of no class as 0xRRGGBB.

    Raises:
        UsageError: missing, not a picture, or of a kind that is no such mask.
    """
    if not semantic:
        values = np.unique(_grey(path))
        allowed = (0, 1) if values.max(initial=0) <= 1 else (0, 255)
        return tuple(int(value) for value in values if value not in allowed)
    picture = _open(path)
    by_colour = _by_colour(picture)
    strays = by_colour[1] if by_colour is not None else np.unique(_ids(picture, path))
    return tuple(int(value) for value in strays if by_colour is not None or value >= CLASSES)


@cache
def palette() -> NDArray[np.uint8]:
    """Colours of the classes in `labels_rgb`, uint8 [71, 3].

    Bits 0, 1 and 2 of an id are the top bits of red, green and blue, bits 3, 4 and 5 the next ones, and so on.
    """
    bits = (np.arange(CLASSES)[:, None] >> np.arange(9)) & 1  # [71, 9]
    weights = np.array([128, 64, 32])
    return np.stack([(bits[:, channel::3] * weights).sum(axis=1) for channel in range(3)], axis=1).astype(np.uint8)


def colours_to_classes(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class ids of a colour mask, uint8 [..., 3] -> [...]; a colour of no class becomes background."""
    return _classes_of(colours)[0]


def _by_colour(picture: Any) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    """Ids [H, W] and colours of no class of a colour picture; None where values are ids."""
    if picture.mode == "P":
        colours = np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)
        used = np.unique(np.asarray(picture))
        if used.max(initial=0) >= len(colours):
            return None
        if (colours[used] == used[:, None]).all():  # some classes have grey colours: 56 is (64, 64, 64)
            return None
        ids, unknown = _classes_of(colours)
        if unknown[used].any():
            return None
        return ids[np.asarray(picture)], np.zeros(0, np.int32)
    if picture.mode not in _COLOUR:
        return None
    colours = np.asarray(picture)[..., :3]
    ids, unknown = _classes_of(colours)
    return ids, np.unique(_packed(colours[unknown]))


def _classes_of(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Class id of every colour, uint8 [..., 3] -> [...], and where it is the colour of none (id 0 then)."""
    ids = _class_table()[_packed(colours)]
    unknown = ids == CLASSES
    ids[unknown] = 0
    return ids, unknown


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours as 0xRRGGBB, [..., 3] -> [...]."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


@cache
def _class_table() -> NDArray[np.uint8]:
    """Class id by packed colour, 71 for colours of no class; uint8 [2^24], 16 MiB."""
    table = np.full(1 << 24, CLASSES, np.uint8)
    table[_packed(palette())] = np.arange(CLASSES)
    return table


def _grey(path: Path) -> NDArray[Any]:
    picture = _open(path)
    if picture.mode not in _GREY:
        raise UsageError(f"mask {path} is of Pillow mode {picture.mode!r}: save it as 8-bit grey, 0 and 255")
    return np.asarray(picture.convert("L") if picture.mode in ("RGB", "RGBA", "LA") else picture)


def _ids(picture: Any, path: Path) -> NDArray[np.uint8]:
    if picture.mode not in ("1", "L", "P"):
        raise UsageError(f"mask {path} is of Pillow mode {picture.mode!r}: save it as 8-bit grey, one class id a pixel")
    return np.asarray(picture).astype(np.uint8)


def _open(path: Path) -> Any:
    """The decoded picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise UsageError(
            f"mask {path} is missing: `avpipe data ls` shows which folder the dataset is read from"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports broken PNG chunks as SyntaxError
        raise UsageError(f"mask {path} cannot be read ({error}): fetch the file again") from error
