"""From arrays to stored bytes and back: what may be stored, and how a mask is written down."""

from __future__ import annotations

import numpy as np

from avpipe.pipeline.cache.layout import ArraySpec
from avpipe.pipeline.cache.records import PlannedClip
from avpipe.pipeline.errors import UsageError

# Type of float -> the signed and unsigned words of its size, infinity and minus infinity as such words.
_WORDS = {
    "float16": ("<i2", "<u2", 0x7C00, 0xFC00),
    "float32": ("<i4", "<u4", 0x7F800000, 0xFF800000),
    "float64": ("<i8", "<u8", 0x7FF0000000000000, 0xFFF0000000000000),
}


def stored_bytes(value: np.ndarray, array: ArraySpec, clip: PlannedClip) -> memoryview:
    """The bytes of one row as they are stored.

    Args:
        value: the array's `row_shape` and `dtype`.
        array: the array.
        clip: the clip, for messages.

    Raises:
        UsageError: wrong shape or type, or a value that is not finite.
    """
    if value.shape != array.row_shape or value.dtype != np.dtype(array.dtype):
        raise UsageError(
            f"{clip.id}/{array.name}: a row is {array.dtype} of shape {array.row_shape}, "
            f"got {value.dtype} of shape {value.shape}"
        )
    stored = np.ascontiguousarray(value, dtype=np.dtype(array.dtype).newbyteorder("<"))
    _refuse_not_finite(stored, array, clip)
    return stored.reshape(-1).view(np.uint8).data


def mask_text(clip: PlannedClip, modality: str, mask: np.ndarray) -> str:
    """A mask as the ledger keeps it: one character a segment.

    Args:
        clip: the clip.
        modality: `visual` or `audio`, for the message.
        mask: bool [T], True where there was media.
    """
    if mask.shape != (clip.segments,) or mask.dtype != np.bool_:
        raise UsageError(f"clip {clip.id!r}: the {modality} mask must be bool of shape ({clip.segments},)")
    return "".join("1" if present else "0" for present in mask)


def mask_array(text: str) -> np.ndarray:
    """The bool [T] of a mask that the ledger keeps."""
    present: np.ndarray = np.frombuffer(text.encode("ascii"), dtype=np.uint8) == ord("1")
    return present


def _refuse_not_finite(value: np.ndarray, array: ArraySpec, clip: PlannedClip) -> None:
    if array.dtype not in _WORDS:
        return
    signed, unsigned, infinity, minus_infinity = _WORDS[array.dtype]
    # Infinity and NaN are the largest words: signed ones without a minus, unsigned ones with it. Two maxima of integers
    # need no copy, and run far faster than numpy's isfinite on float16.
    if int(value.view(signed).max()) < infinity and int(value.view(unsigned).max()) < minus_infinity:
        return
    where = f"{clip.id}/{array.name}"
    if np.isnan(value).any():
        raise UsageError(f"NaN in {where}: the backbone does not give finite features; check its weights")
    if array.dtype == "float16":
        raise UsageError(f"float16 overflow in {where}, use --dtype float32")
    raise UsageError(f"infinity in {where}: the backbone does not give finite features; check its weights")
