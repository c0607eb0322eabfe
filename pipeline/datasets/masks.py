"""Reading binary masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avpipe.pipeline.errors import UsageError


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
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            mode = picture.mode
            values = np.asarray(picture.convert("L") if mode in ("RGB", "RGBA", "LA") else picture)
    except FileNotFoundError as error:
        raise UsageError(
            f"mask {path} is missing: `avpipe data ls` shows which folder the dataset is read from"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        raise UsageError(f"mask {path} cannot be read ({error}): fetch the file again") from error
    if mode not in ("1", "L", "P", "RGB", "RGBA", "LA"):
        raise UsageError(f"mask {path} is of Pillow mode {mode!r}: save it as 8-bit grey, 0 and 255")
    return values == 1 if values.max(initial=0) <= 1 else values > 127
