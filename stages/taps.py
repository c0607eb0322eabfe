"""Which arrays of a cache are the taps of a modality, in which storage codec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError
from avpipe.stages.statistics import is_statistics

if TYPE_CHECKING:
    from avpipe.pipeline.cache import ArraySpec, Cache

NOT_TAPS = ("frames", "samples")
"""Arrays beside the taps: what the backbones were fed."""
USUAL_CODEC = "float16"


def taps_of(cache: Cache, modality: str, codec: str = "") -> tuple[str, ...]:
    """Taps that a cache has for a modality in one codec, in order of depth (numbers in names count as numbers).

    A layer may be stored in several codecs: float16 as `blocks.3`, any other as `blocks.3@<codec>`. One codec is taken
    for all, so no layer is ever there twice.

    Args:
        cache: the open cache.
        modality: `audio` or `visual`.
        codec: such as `float32`; "" is float16 where the cache has it, else the only one that there is.

    Returns:
        names within the modality, codec included, as the arrays are called.

    Raises:
        UsageError: there is no tap, the codec is not there, or it has to be chosen.
    """
    by_codec: dict[str, list[ArraySpec]] = {}
    for array in cache.arrays.values():
        if array.modality == modality and is_tap(array):
            by_codec.setdefault(codec_of(array), []).append(array)
    if not by_codec:
        held = sorted({a.modality for a in cache.arrays.values() if is_tap(a)})
        raise UsageError(
            f"cache {cache.path} holds no {modality} features (it has: {', '.join(held) or 'none'}): "
            f"run `avpipe extract --dataset {cache.dataset.get('name', 'NAME')} --cache {cache.path}`, or train with "
            "--modality on what is there"
        )
    chosen = by_codec[_choose(codec, sorted(by_codec), f"{modality} features of cache {cache.path}")]
    whole = [array.name for array in chosen if not array.is_float]
    if whole:
        raise UsageError(f"{', '.join(whole)} of cache {cache.path} is no float array: train on another codec=")
    return tuple(sorted((array.tap for array in chosen), key=_in_order))


def every_tap(cache: Cache, modalities: Sequence[str], codec: str = "") -> dict[str, tuple[str, ...]]:
    """All taps that a cache has in one codec, by modality; arguments and errors as `taps_of`."""
    return {modality: taps_of(cache, modality, codec) for modality in modalities}


def is_tap(array: ArraySpec) -> bool:
    """Whether an array holds the tokens of a layer: neither media nor statistics of tokens."""
    return array.tap.partition("@")[0] not in NOT_TAPS and not is_statistics(array.name)


def codec_of(array: ArraySpec) -> str:
    """Storage codec of a tap: what stands behind "@" in its name, else its type."""
    return array.tap.partition("@")[2] or array.dtype


def _choose(codec: str, held: Sequence[str], what: str) -> str:
    if codec:
        if codec not in held:
            raise UsageError(
                f"{what} are not stored as {codec!r} (but as: {', '.join(held)}): set codec= to one of them"
            )
        return codec
    if USUAL_CODEC in held:
        return USUAL_CODEC
    if len(held) > 1:
        raise UsageError(f"{what} are stored as {', '.join(held)}: say which by codec={held[0]}")
    return held[0]


def _in_order(tap: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", tap)]
