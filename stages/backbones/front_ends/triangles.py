"""Overlapping triangles, the shape of every mel filter bank."""

from __future__ import annotations

import torch
from torch import Tensor


def triangles(points: Tensor, edges: Tensor) -> Tensor:
    """Triangles of unit height between consecutive edges.

    Args:
        points: [P], where the triangles are wanted: frequencies of the transform's bins, in hertz or in mel.
        edges: [M + 2], ascending, on the same scale: triangle m rises from edge m to m + 1 and falls to m + 2.

    Returns:
        [M, P], 0 outside a triangle.
    """
    rising = (points - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - points) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)
