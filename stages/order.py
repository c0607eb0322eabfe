"""In which order samples are trained on: shuffled over everything, or over a few units of the cache at a time.

A full shuffle reads rows from anywhere in the cache, which a local disk does not mind. A block shuffle takes the units
(files) in random order, a few at a time, and shuffles within these: a network disk then serves few files at a time.
What that costs is a number: how many different units meet in a batch, against a full shuffle (`shuffle_quality`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np


def full_order(held: Sequence[int], seed: int, epoch: int) -> np.ndarray:
    """All of `held` in an order that follows from (seed, epoch) and their number."""
    return np.random.default_rng((seed, epoch)).permutation(np.array(held, dtype=np.int64))


def block_order(held: Sequence[int], units: Sequence[int], block: int, seed: int, epoch: int) -> np.ndarray:
    """All of `held`: `block` units after `block` units, mixed within.

    The order follows from (seed, epoch) and from where clips lie: caches of equal content may have other units.

    Args:
        held: places of samples.
        units: the unit of each of them.
        block: units that are mixed at once.
        seed: of the run.
        epoch: number of the epoch.
    """
    random = np.random.default_rng((seed, epoch))
    places, unit_of = np.array(held, dtype=np.int64), np.array(units, dtype=np.int64)
    names = random.permutation(np.unique(unit_of))
    parts = [places[np.isin(unit_of, names[start : start + block])] for start in range(0, len(names), block)]
    return np.concatenate([random.permutation(part) for part in parts]) if parts else places


def digest(batches: Sequence[Sequence[str]]) -> str:
    """Hash of an epoch's order.

    Args:
        batches: ids of the samples of each batch.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.blake2b(json.dumps(batches).encode(), digest_size=16).hexdigest()


def units_met(order: np.ndarray, unit_of: dict[int, int], size: int) -> float:
    """Mean number of different units in a batch of `size` samples, taken in this order."""
    batches = [order[start : start + size].tolist() for start in range(0, len(order), size)]
    return float(np.mean([len({unit_of[place] for place in batch}) for batch in batches]))


def shuffle_quality(
    held: Sequence[int], units: Sequence[int], block: int, size: int, seed: int, epoch: int
) -> tuple[float, float]:
    """How well a block shuffle mixes, in the very order of an epoch.

    Arguments as `block_order`; `size` is the number of samples in a batch.

    Returns:
        mean number of different units in a batch with the block shuffle, and with the full shuffle of the same epoch.
        Their ratio is the quality: 1 is as good as a full shuffle.
    """
    unit_of = dict(zip(held, units, strict=True))
    return (
        units_met(block_order(held, units, block, seed, epoch), unit_of, size),
        units_met(full_order(held, seed, epoch), unit_of, size),
    )


def quality_in_words(held: Sequence[int], units: Sequence[int], block: int, size: int, seed: int) -> str:
    """One line on `shuffle_quality` in the first epoch; arguments as there."""
    met, full = shuffle_quality(held, units, block, size, seed, epoch=1)
    return (
        f"block shuffle, {block} units at a time: a batch of {size} meets {met:.2f} units on average, with a full "
        f"shuffle {full:.2f}: quality {met / full:.2f} (1 is as good as full)"
    )
