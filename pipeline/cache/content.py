"""The content hash: what a cache holds, whatever way it came to be there.

Every stored row is one element: a hash over clip id, array name, segment number and raw bytes. The hash of a cache is
the sum of its elements modulo 2^128. A sum does not depend on order, so it says the same as hashing all elements sorted
by (clip, array, segment), yet each unit, each clip and each writer can add up its share on its own, in one pass and
without sorting anything; placement, unit size, number of writers and interruptions leave no trace in it. It guards
against accidents, not against forgers.
"""

from __future__ import annotations

from typing import Any

import xxhash

MODULUS = 1 << 128


def encode_id(clip: str) -> bytes:
    """A clip id as bytes; ids made from file names that are no valid UTF-8 are kept apart too."""
    return clip.encode("utf-8", "surrogatepass")


def element(clip: str, array: str, segment: int, data: Any) -> int:
    """The element of one row.

    Args:
        clip: the clip's id.
        array: name of the array.
        segment: number of the segment in the clip, from 0.
        data: the row's bytes as stored, without checksum.
    """
    state = xxhash.xxh3_128(b"\0".join((encode_id(clip), array.encode(), segment.to_bytes(4, "little"))))
    state.update(data)
    return int(state.intdigest())
