"""Which arrays of a cache are the taps of a modality, in which storage codec."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.stages.backbones import select_taps
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
        if array.modality == modality and is_tap(array, cache.arrays):
            by_codec.setdefault(codec_of(array), []).append(array)
    if not by_codec:
        held = sorted({a.modality for a in cache.arrays.values() if is_tap(a, cache.arrays)})
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


def choose_taps(cache: Cache, modalities: Sequence[str], codec: str, choice: str) -> dict[str, tuple[str, ...]]:
    """The taps to train on, by modality, in order of depth.

    Args:
        cache: the open cache.
        modalities: those in use.
        codec: as for `taps_of`.
        choice: of the taps that the cache holds, for each modality: `all`; `last:K`; `stages`: those that end a stage,
            or one of four equal parts of the depth of a backbone without stages (of the taps that are held, where the
            backbone is not known); or names joined by commas, with or without codec, `visual/` or `audio/` in front
            where only that modality is meant.

    Raises:
        UsageError: what is chosen is not there, or leaves a modality without a tap; and as `taps_of`.
    """
    held = every_tap(cache, modalities, codec)
    if choice == "all":
        return held
    if choice == "stages":
        return {m: _stages(cache, m, taps) for m, taps in held.items()}
    if choice.startswith("last:"):
        return {m: _last(int(choice.removeprefix("last:")), m, taps, cache) for m, taps in held.items()}
    return _named([name.strip() for name in choice.split(",") if name.strip()], held, cache)


def _stages(cache: Cache, modality: str, held: Sequence[str]) -> tuple[str, ...]:
    """The held taps that end a stage, or a part of the depth."""
    stages = cache.specs[modality].fields.get("backbone", {}).get("stages", ())
    by_stage = [_block_names(number, int(stage["blocks"]), len(stages)) for number, stage in enumerate(stages)]
    every = [name for names in by_stage for name in names] or [bare(tap) for tap in held]
    ends = select_taps("stages", every, [names[-1] for names in by_stage])
    found = tuple(tap for tap in held if bare(tap) in ends)
    if not found:
        raise UsageError(
            f"taps=stages: cache {cache.path} has none of {', '.join(ends)} ({modality}), but {', '.join(held)}: name "
            "taps of these, or add those with `avpipe extract --layers stages`"
        )
    return found


def _last(count: int, modality: str, held: Sequence[str], cache: Cache) -> tuple[str, ...]:
    if count > len(held):
        raise UsageError(
            f"taps=last:{count}: cache {cache.path} has {len(held)} {modality} taps; `taps=all` takes all of them"
        )
    return tuple(held[-count:])


def _named(names: Sequence[str], held: Mapping[str, Sequence[str]], cache: Cache) -> dict[str, tuple[str, ...]]:
    known = {name for modality, taps in held.items() for tap in taps for name in _names_of(modality, tap)}
    for name in names:
        if name not in known:
            offered = sorted({bare(tap) for taps in held.values() for tap in taps}, key=_in_order)
            raise unknown_name("tap", name, [*offered, "all", "stages", "last:4"])
    found = {m: tuple(tap for tap in taps if _names_of(m, tap) & set(names)) for m, taps in held.items()}
    for modality, taps in found.items():
        if not taps:
            raise UsageError(
                f"taps={','.join(names)} names no {modality} tap of cache {cache.path}, which has "
                f"{', '.join(held[modality])}: add one, or train with --modality on the other"
            )
    return found


def _names_of(modality: str, tap: str) -> set[str]:
    """Every way in which a tap may be named."""
    return {bare(tap), tap, f"{modality}/{bare(tap)}", f"{modality}/{tap}"}


def _block_names(stage: int, blocks: int, stages: int) -> list[str]:
    """Names of the taps of one stage, as `BackboneFacts.taps` has them."""
    return [f"layers.{stage}.blocks.{block}" if stages > 1 else f"blocks.{block}" for block in range(blocks)]


def bare(tap: str) -> str:
    """A tap's name without its codec."""
    return tap.partition("@")[0]


def held_taps(cache: Cache, modality: str) -> tuple[str, ...]:
    """Every tap that a cache has of a modality, in every codec, in order of depth."""
    held = cache.arrays
    return tuple(sorted((a.tap for a in held.values() if a.modality == modality and is_tap(a, held)), key=_in_order))


def is_tap(array: ArraySpec, arrays: Mapping[str, ArraySpec]) -> bool:
    """Whether an array holds the tokens of a layer: neither media nor statistics of another one of `arrays`."""
    return bare(array.tap) not in NOT_TAPS and not is_statistics(array, arrays)


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
