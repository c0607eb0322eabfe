"""Pictures and sounds for pretraining, rendered as the demo's clips are, but of the random kinds alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from kinds import random_kinds
from numpy.typing import NDArray
from PIL import Image

from avpipe.stages.demo.kinds import Kind
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import Actor, Scene, cast

KINDS = 48
KINDS_SEED = 20_000
"""Seed of the kinds. Pictures and sounds have seeds from 1,000 on (`pretrain.make`), demo data usually small ones."""
SIDE, PATCH = 160, 16
SAMPLE_RATE = 16_000
_SOUND_SECONDS = 4


def kinds() -> dict[str, Kind]:
    """The kinds that the backbones learn."""
    return random_kinds(KINDS_SEED, KINDS)


def pictures(seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures of 0 to 4 objects.

    Returns:
        pictures: uint8 [count, SIDE, SIDE, 3].
        patches: uint8 [count, SIDE // PATCH, SIDE // PATCH], 1 + kind that covers most of a patch, 0 for none.
    """
    known = kinds()
    side = SIDE // PATCH
    found, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty((count, side, side), np.uint8)
    for index in range(count):
        rng = np.random.default_rng([seed, 1, index])
        width, height = ((SIDE, SIDE), (192, 144))[int(rng.integers(2))]  # the demo's square and wide pictures
        scene = _scene(rng, known, width, height)
        picture, owners = Camera(scene, known).picture(float(rng.uniform(0, 4)))
        numbers = np.array([0, *(1 + list(known).index(actor.kind) for actor in scene.actors)], np.uint8)
        if (width, height) != (SIDE, SIDE):
            picture = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            owners = np.asarray(Image.fromarray(owners).resize((SIDE, SIDE), Image.Resampling.NEAREST))
        found[index], labels[index] = picture, _patch_labels(numbers[owners])
    return found, labels


def _scene(rng: np.random.Generator, known: Mapping[str, Kind], width: int, height: int) -> Scene:
    names = [str(name) for name in rng.choice(list(known), int(rng.choice(5, p=(0.05, 0.2, 0.3, 0.3, 0.15))), False)]
    actors = [_seen(rng, actor) for actor in cast(rng, names, width / height)]
    return Scene(4, width, height, tuple(actors), float(rng.uniform(0, 0.05)), 0.0, int(rng.integers(2**31)))


def _seen(rng: np.random.Generator, actor: Actor) -> Actor:
    body = replace(actor.body, radius=float(rng.uniform(0.09, 0.3)), value=float(rng.uniform(0.5, 1.0)))
    return replace(actor, body=body, visible=((0.0, 4.0),))


def _patch_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The most frequent label of each patch."""
    side = SIDE // PATCH
    blocks = labels.reshape(side, PATCH, side, PATCH).transpose(0, 2, 1, 3).reshape(side * side, -1)
    return np.array([np.bincount(block).argmax() for block in blocks], np.uint8).reshape(side, side)


def sounds(seed: int, count: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Seconds of sound with 0 to 3 sources, each on for a whole second or not at all.

    Returns:
        samples: int16 [count, SAMPLE_RATE].
        present: bool [count, KINDS].
    """
    known = kinds()
    names = list(known)
    samples, present = np.empty((count, SAMPLE_RATE), np.int16), np.zeros((count, KINDS), bool)
    for index in range(0, count, _SOUND_SECONDS):
        rng = np.random.default_rng([seed, 2, index])
        chosen = [str(name) for name in rng.choice(names, 4, False)]
        on = rng.uniform(size=(4, _SOUND_SECONDS)) < np.array([0.85, 0.5, 0.3, 0.15])[:, None]
        actors = [_heard(actor, row) for actor, row in zip(cast(rng, chosen, 1.0), on, strict=True)]
        hiss = float(np.exp(rng.uniform(np.log(0.002), np.log(0.05))))
        scene = Scene(_SOUND_SECONDS, SIDE, SIDE, tuple(actors), 0.0, hiss, int(rng.integers(2**31)))
        wave = soundtrack(scene, SAMPLE_RATE, known) * float(np.exp(rng.uniform(np.log(0.5), 0)))
        seconds = (wave * 32767).astype(np.int16).reshape(_SOUND_SECONDS, -1)
        stop = min(count, index + _SOUND_SECONDS)
        samples[index:stop] = seconds[: stop - index]
        for name, row in zip(chosen, on, strict=True):
            present[index:stop, names.index(name)] = row[: stop - index]
    return samples, present


def _heard(actor: Actor, on: NDArray[np.bool_]) -> Actor:
    return replace(actor, sounding=tuple((float(i), float(i + 1)) for i in np.flatnonzero(on)))


MAKERS: dict[str, Any] = {"visual": pictures, "audio": sounds}
