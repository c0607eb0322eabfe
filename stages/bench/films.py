"""Films to decode: H.264 and AAC, as clips from the web are, with pictures that move. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

CELLS = (64, 16, 4, 1)
"""Sizes of what is to be seen, pixels: flat areas and fine grain."""
STEP = (1, 2)
"""How far the picture moves down and to the right from one frame to the next, pixels."""
SOUND_RATE = 44_100


@dataclass(frozen=True, slots=True)
class Film:
    """One kind of film.

    Attributes:
        width, height: pixels, even.
        frames_per_second: picture rate.
        seconds: length.
    """

    width: int
    height: int
    frames_per_second: int = 25
    seconds: int = 10


def write_film(path: Path, film: Film, seed: int) -> None:
    """Writes a film: a coloured texture that the camera moves across, and stereo noise.

    Args:
        path: the mp4 file.
        film: its kind.
        seed: films of different seeds show and sound different.
    """
    from avpipe.stages.demo.encode import write_mp4

    random, frames = np.random.default_rng(seed), film.frames_per_second * film.seconds
    scene = _texture(random, film.height + STEP[0] * frames, film.width + STEP[1] * frames)
    down, right, _ = scene.strides
    strides = (STEP[0] * down + STEP[1] * right, *scene.strides)  # each picture is a view of the scene
    pictures = as_strided(scene, (frames, film.height, film.width, 3), strides, writeable=False)
    sound = random.uniform(-0.3, 0.3, (2, film.seconds * SOUND_RATE)).astype(np.float32)
    write_mp4(path, pictures, film.frames_per_second, sound, SOUND_RATE)


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: random cells of several sizes, one over the other, large ones strongest."""
    scene = np.zeros((height, width, 3), np.float32)
    for size in CELLS:
        cells = random.uniform(-1, 1, (-(-height // size), -(-width // size), 3)).astype(np.float32)
        scene += size**0.5 * cells.repeat(size, axis=0).repeat(size, axis=1)[:height, :width]
    low, high = scene.min(), scene.max()
    pixels: NDArray[np.uint8] = ((scene - low) * (255 / (high - low))).astype(np.uint8)
    return pixels
