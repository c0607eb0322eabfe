"""Statistics of tokens, stored beside them: what LayerNorm needs of each token, so that no training step computes it.

The array of a tap's statistics is called as the tap's, with `.stats` behind it, and has rows `[N, 2]` in float32: mean
and inverse deviation of each token over its channels, of the values as they are stored. An array of such a name that
has not just that shape and type beside its tap is no statistics, but a tap. Legend: N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.pipeline.cache import ArraySpec

SUFFIX = ".stats"
EPS = 1e-5
"""LayerNorm's epsilon, added to the variance."""


def statistics_name(array: str) -> str:
    """Name of the statistics of an array of tokens."""
    return array + SUFFIX


def is_statistics(array: ArraySpec, arrays: Mapping[str, ArraySpec]) -> bool:
    """Whether an array holds statistics of another one of `arrays`: by its name, shape and type."""
    tokens = arrays.get(tap_of(array.name)) if array.name.endswith(SUFFIX) else None
    return tokens is not None and len(tokens.row_shape) == 2 and array == statistics_spec(tokens)


def tap_of(array: str) -> str:
    """Name of the array of tokens to which an array of statistics belongs."""
    return array.removesuffix(SUFFIX)


def statistics_spec(array: ArraySpec) -> ArraySpec:
    """The array of the statistics of an array of tokens."""
    return ArraySpec(statistics_name(array.name), (array.row_shape[0], 2), "float32")


def token_statistics(tokens: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Mean and `1 / sqrt(variance + EPS)` over the channels.

    Args:
        tokens: `[..., N, C]`, any float type.

    Returns:
        float32 `[..., N, 2]`.
    """
    values = tokens.astype(np.float32)
    mean = values.mean(axis=-1)
    values -= mean[..., None]
    variance = np.einsum("...c,...c->...", values, values) / values.shape[-1]
    return np.stack([mean, 1 / np.sqrt(variance + np.float32(EPS))], axis=-1).astype(np.float32)
