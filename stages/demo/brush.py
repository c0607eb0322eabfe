"""Painting antialiased shapes on a patch of a picture.

Shapes are given as depth fields: how far a point lies inside the shape, negative outside. Coordinates are local to an
object: u to the right, v down, in units of the object's radius.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]
"""float32 array: [H, W] over a patch, [3, 1, 1] for a colour, or [3, H, W] for a picture."""


class Brush:
    """A patch of a picture with the local coordinates of one object.

    Attributes:
        patch: float32 [3, H, W], 0 to 1; painted in place. Channels first: numpy is three times faster on long rows.
        u, v: local coordinates, each [H, W].
        coverage: how much of each pixel the object covers, 0 to 1, [H, W].
    """

    def __init__(self, patch: Field, u: Field, v: Field, pixel: float) -> None:
        """Starts an object on `patch`; `pixel` is the size of a pixel in local units."""
        self.patch, self.u, self.v, self._pixel = patch, u, v, pixel
        self.coverage: Field = np.zeros(u.shape, np.float32)

    def paint(self, depth: Field, colour: Field) -> None:
        """Paints a shape.

        Args:
            depth: its depth field, [H, W].
            colour: [3, 1, 1], or [3, H, W] where it has a texture.
        """
        alpha = depth * np.float32(1 / self._pixel)
        alpha += np.float32(0.5)
        np.clip(alpha, 0, 1, out=alpha)
        self.patch += alpha * (colour - self.patch)
        np.maximum(self.coverage, alpha, out=self.coverage)

    def disc(self, x: float, y: float, radius: float) -> Field:
        """A filled circle around (x, y)."""
        return radius - np.hypot(self.u - x, self.v - y)

    def ellipse(self, x: float, y: float, half_width: float, half_height: float) -> Field:
        """A filled ellipse; the depth is exact on the edge only."""
        depth = 1 - np.hypot((self.u - x) / half_width, (self.v - y) / half_height)
        return depth * min(half_width, half_height)

    def ring(self, x: float, y: float, radius: float, width: float) -> Field:
        """A circle drawn with a line of the given width."""
        return width / 2 - np.abs(np.hypot(self.u - x, self.v - y) - radius)

    def box(self, x: float, y: float, half_width: float, half_height: float) -> Field:
        """A filled rectangle around (x, y)."""
        return np.minimum(half_width - np.abs(self.u - x), half_height - np.abs(self.v - y))

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float) -> Field:
        """A straight line with round ends."""
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.u - x0) * dx + (self.v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        return width / 2 - np.hypot(self.u - x0 - along * dx, self.v - y0 - along * dy)
