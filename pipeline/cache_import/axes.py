"""From an array of released features to tokens: which axis is which, and how many rows make a segment.

Axes are letters: T time, N tokens, H and W rows and columns of a grid, C channels. Time comes first; where there are k
times as many rows as segments, k rows in succession make one segment. Tokens of a segment are in the order of those
rows, and within a row in the order of the other axes.
"""

from __future__ import annotations

import math
import re

import numpy as np

from avpipe.pipeline.cache_import.npy import MOST_BYTES, rejected
from avpipe.pipeline.errors import UsageError

_LETTERS = re.compile(r"T[NHWC]+")


def parse_axes(text: str) -> str:
    """Checks axes that a user has given, such as `TNC`, `TCHW` or `THWC`.

    Raises:
        UsageError: they name no time first, no channels, or an axis twice.
    """
    letters = text.upper()
    if not _LETTERS.fullmatch(letters) or len(set(letters)) != len(letters) or "C" not in letters:
        raise UsageError(
            f"axes {text!r}: give T (time) first, then C (channels) and maybe N (tokens), or H and W (a grid), each "
            "once: TC, TNC, TCHW or THWC"
        )
    return letters


def infer_axes(shape: tuple[int, ...], name: str) -> str:
    """The axes of an array of one clip, where its shape tells them.

    Args:
        shape: `[T, ...]`.
        name: what the array is, for the message.

    Raises:
        UsageError: the shape does not tell; says what to give.
    """
    if len(shape) in (2, 3):
        return "TC" if len(shape) == 2 else "TNC"
    if len(shape) == 4:
        first, middle, last = shape[1:]
        if first == middle != last:
            return "THWC"
        if middle == last != first:
            return "TCHW"
    raise UsageError(f"{name} has shape {list(shape)}: say which axis is which with --axes NAME=TCHW, THWC or TNC")


def row_shape(shape: tuple[int, ...], axes: str, segments: int) -> tuple[int, int]:
    """Tokens and channels of one segment.

    Args:
        shape: shape of a clip's array.
        axes: its axes.
        segments: segments of the clip.

    Raises:
        InputRejected: the array does not fit the clip or the axes, or a segment is more than memory holds.
    """
    if len(shape) != len(axes):
        raise rejected(f"shape {list(shape)} does not have the axes {axes}")
    if not shape[0] or shape[0] % segments:
        raise rejected(f"{shape[0]} rows for {segments} segments: expected as many, or a whole number of rows for each")
    sizes = dict(zip(axes, shape, strict=True))
    channels = sizes.pop("C")
    tokens_each = math.prod(sizes.values()) // segments
    if 4 * tokens_each * channels > MOST_BYTES:
        raise rejected(f"shape {list(shape)} makes {tokens_each} x {channels} a segment: are these features?")
    return tokens_each, channels


def tokens(values: np.ndarray, axes: str) -> np.ndarray:
    """Tokens of one segment.

    Args:
        values: rows of the segment, `[k, ...]` in the order of `axes`.
        axes: the axes.

    Returns:
        `[k * N, C]`, in the type of `values`.
    """
    last = np.moveaxis(values, axes.index("C"), -1)
    return last.reshape(-1, last.shape[-1])
