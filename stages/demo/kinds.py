"""The kinds of objects in demo data: one look and one sound each."""

from __future__ import annotations

from dataclasses import dataclass

from avpipe.stages.demo import looks, sounds


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        draw: paints it.
        hue: middle of its range of hues, 0 to 1.
        turns_per_second: speed of its inner motion.
        voice: its sound.
    """

    draw: looks.Draw
    hue: float
    turns_per_second: float
    voice: sounds.Voice


KINDS: dict[str, Kind] = {
    "bell": Kind(looks.bell, 0.13, 0.9, sounds.bell),
    "dog": Kind(looks.dog, 0.06, 1.5, sounds.dog),
    "helicopter": Kind(looks.helicopter, 0.36, 1.7, sounds.helicopter),
    "violin": Kind(looks.violin, 0.00, 0.7, sounds.violin),
    "train": Kind(looks.train, 0.60, 1.0, sounds.train),
    "clock": Kind(looks.clock, 0.48, 0.5, sounds.clock),
    "baby": Kind(looks.baby, 0.92, 1.1, sounds.baby),
    "motorcycle": Kind(looks.motorcycle, 0.76, 1.3, sounds.motorcycle),
}
"""By name. Order matters: plans draw from it, so a new kind goes last."""
