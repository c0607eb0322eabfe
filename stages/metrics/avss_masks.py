"""AVSS masks at the size at which they are scored: colours to class ids, and the official geometry.

Nearest here is Pillow's rule, as in the official loader (torch's `nearest` picks other pixels).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from avpipe.pipeline.errors import UsageError

CLASSES = 71
EVAL_SIZE = (224, 224)
"""Height and width at which the official protocol scores."""


def palette(classes: int = CLASSES) -> npt.NDArray[np.uint8]:
    """The colour of each class, `[classes, 3]`: bits 0, 1, 2 of its id are the top bits of R, G, B, the next three the
    second highest, and so on (the palette of Pascal VOC). At most 256 classes.
    """
    ids = np.arange(classes)
    colours = np.zeros((classes, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def colours_to_classes(rgb: npt.ArrayLike, classes: int = CLASSES) -> npt.NDArray[np.uint8]:
    """Class ids of a colour mask.

    Args:
        rgb: uint8 `[..., 3]`.
        classes: number of classes, at most 256.

    Returns:
        uint8 `[...]`; a colour that no class has becomes class 0.

    Raises:
        UsageError: it is not an RGB image in uint8.
    """
    pixels = np.asarray(rgb)
    if pixels.dtype != np.uint8 or pixels.ndim < 1 or pixels.shape[-1] != 3:
        raise UsageError(f"a colour mask must be uint8 [..., 3], not {pixels.dtype} {pixels.shape}: convert it to RGB")
    ids = np.zeros(pixels.shape[:-1], dtype=np.uint8)
    for bit in range(8):
        ids |= ((pixels[..., bit % 3] >> (7 - bit // 3)) & 1) << bit
    known = np.zeros((256, 3), dtype=np.uint8)  # black for ids that are no class, which no pixel with such an id is
    known[:classes] = palette(classes)
    return np.where((known[ids] == pixels).all(axis=-1), ids, 0).astype(np.uint8)


def resize_to_eval(mask: npt.NDArray[np.generic], size: tuple[int, int] = EVAL_SIZE) -> npt.NDArray[np.generic]:
    """A mask squashed to the size of evaluation, as the official loader does for validation and test.

    Args:
        mask: class ids or bool `[H, W]`, or colours uint8 `[H, W, 3]`.
        size: height and width.

    Returns:
        the same type at the new size, each pixel from the nearest one.

    Raises:
        UsageError: it is not a picture.
    """
    values = np.asarray(mask)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise UsageError(f"a mask must be [H, W] or [H, W, 3], not {values.shape}")
    if values.shape[:2] == tuple(size):
        return values
    small = values if values.dtype == np.uint8 else values.astype(np.int32)
    resized = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized).astype(values.dtype)


def crop_for_training(mask: npt.NDArray[np.generic], side: int = EVAL_SIZE[0]) -> npt.NDArray[np.generic]:
    """A mask in the official geometry of training: short side to `side`, nearest, then the middle square.

    Args:
        mask: as for `resize_to_eval`.
        side: height and width of the result.

    Raises:
        UsageError: it is not a picture.
    """
    height, width = np.shape(mask)[:2]
    short = min(height, width)
    rows, columns = (int(1.0 * length * side / short) for length in (height, width))
    resized = resize_to_eval(mask, (rows, columns))
    top, left = (round((length - side) / 2) for length in (rows, columns))
    return resized[top : top + side, left : left + side]
