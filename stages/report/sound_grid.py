"""Where tokens of sound lie in a segment's spectrogram: frequency by time, whatever grid the backbone has.

Legend: R and K rows and columns of the backbone's grid, F frequencies, T' bins of time of a segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.backbones.windows import bins_of

Floats = npt.NDArray[np.floating[Any]]


def over_segment(maps: Floats, backbone: Mapping[str, Any]) -> Floats:
    """Maps over a backbone's grid as maps over the spectrogram of the segment.

    A model that hears the segment repeated to its full length looks at each moment several times: these are added up.

    Args:
        maps: `[..., R, K]`, shares of attention.
        backbone: field `backbone` of the audio spec.

    Returns:
        `[..., F, T']`, the lowest frequency first.
    """
    preprocess = backbone.get("preprocess", {})
    window, front_end = preprocess.get("window"), preprocess.get("front_end", {})
    if window is None:
        return maps.swapaxes(-1, -2) if front_end.get("time_axis") == "rows" else maps
    if window["kind"] == "clip":  # its tokens are a segment's already
        return maps
    unfolded = _unfolded(maps, window)
    heard = window["samples"] / front_end["sample_rate"]
    return unfolded @ _repeats(unfolded.shape[-1], window["seconds"], heard, window["segment_seconds"]).T


def _unfolded(maps: Floats, window: Mapping[str, Any]) -> Floats:
    """Time along the columns, the stretches that are stacked along the rows one after the other."""
    turned = maps.swapaxes(-1, -2) if window["time_axis"] == "rows" else maps
    *rest, rows, columns = turned.shape
    stacked = turned.reshape(*rest, window["chunks"], rows // window["chunks"], columns)
    return stacked.swapaxes(-2, -3).reshape(*rest, rows // window["chunks"], window["chunks"] * columns)


def _repeats(columns: int, seconds: float, heard: float, segment_seconds: float) -> Floats:
    """`[T', columns]`: the share of each column that lies in a bin of the segment, in any of its repeats.

    Args:
        columns: columns of time.
        seconds: what they span.
        heard: seconds of sound; behind it there is padding.
        segment_seconds: length of the segment that is repeated.
    """
    width = seconds / columns
    bins = bins_of(segment_seconds, width)
    starts = np.arange(columns) * width
    found = np.zeros((bins, columns))
    for repeat in range(int(np.ceil(heard / segment_seconds))):
        edges = repeat * segment_seconds + np.arange(bins + 1) * (segment_seconds / bins)
        edges = np.minimum(edges, heard)
        shared = np.minimum(edges[1:, None], starts + width) - np.maximum(edges[:-1, None], starts)
        found += np.clip(shared, 0, None) / width
    return found
