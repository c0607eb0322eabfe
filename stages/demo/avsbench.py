"""What demo data of S4 and MS3 have in common: five seconds, one picture and one mask of sounding objects a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avpipe.stages.demo.encode import write_mp4, write_png, write_wav
from avpipe.stages.demo.render import Camera, soundtrack
from avpipe.stages.demo.scenes import Actor, Scene, covers

SECONDS = 5
SIDE = 224
FRAMES_PER_SECOND = 16
"""The last of 16 pictures in each second is the one that the dataset keeps."""
FRAME_POSITION = 15 / 16
_SAMPLE_RATE = 16_000


def sources(scene: Scene, second: int) -> list[Actor]:
    """The actors that are both seen and heard when the picture of `second` is taken."""
    time = second + FRAME_POSITION
    return [actor for actor in scene.actors if covers(actor.visible, time) and covers(actor.sounding, time)]


def mask(scene: Scene, owners: NDArray[np.uint8], second: int) -> NDArray[np.uint8]:
    """The mask of `second`, uint8 [H, W], 255 where a sounding object is seen; `owners` as from `Camera.picture`."""
    numbers = [scene.actors.index(actor) + 1 for actor in sources(scene, second)]
    return np.where(np.isin(owners, numbers), 255, 0).astype(np.uint8)


def write_clip(scene: Scene, frames: Sequence[Path], masks: Sequence[Path], wav: Path, video: Path) -> None:
    """Writes the files of one clip, and the folders that they are in.

    Args:
        scene: what happens in it.
        frames: one picture per second.
        masks: one mask per second from the first one on; fewer than seconds where the layout has no more.
        wav: its sound.
        video: the raw video.
    """
    for folder in {path.parent for path in (*frames, *masks, wav, video)}:
        folder.mkdir(parents=True, exist_ok=True)
    camera = Camera(scene)
    pictures = []
    for index in range(SECONDS * FRAMES_PER_SECOND):
        picture, owners = camera.picture(index / FRAMES_PER_SECOND)
        pictures.append(picture)
        second, position = divmod(index, FRAMES_PER_SECOND)
        if position == FRAMES_PER_SECOND - 1:
            write_png(frames[second], picture)
            if second < len(masks):
                write_png(masks[second], mask(scene, owners, second))
    sound = soundtrack(scene, _SAMPLE_RATE)[None]
    write_wav(wav, sound, _SAMPLE_RATE)
    write_mp4(video, np.stack(pictures), FRAMES_PER_SECOND, sound, _SAMPLE_RATE)
