"""AVSS masks in the official geometry.

Nearest here is Pillow's rule, as in the official loader (torch's `nearest` picks other pixels).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from avpipe.pipeline.errors import UsageError

EVAL_SIZE = (224, 224)
"""Height and width at which the official protocol scores."""


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
