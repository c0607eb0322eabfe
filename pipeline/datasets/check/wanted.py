"""Which files a dataset should have, and what each of them is for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.check.look import AUDIO, MASK, PICTURE, VIDEO
from avpipe.pipeline.datasets.own_media import SOUNDS
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.media.pictures import SUFFIXES, is_picture

MASK_FOLDERS = ("labels_semantic", "labels_rgb")
"""Folders of the same masks twice, as ids and as colours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file.

    Attributes:
        path: where it should be.
        role: see `look.py`.
        clip: id of the first clip that it is for.
        tracks: which tracks of a video are needed, of `video` and `audio`.
        spare: whether extraction does without it.
    """

    path: Path
    role: str
    clip: str
    tracks: tuple[str, ...] = ()
    spare: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of which no pictures can be taken."""
        return self.role == PICTURE and not is_picture(self.path.name)


def wanted_files(dataset: Dataset, further: Iterable[Wanted] = ()) -> dict[Path, Wanted]:
    """Every file that clips, samples and layout name, each once; what is needed comes before what is spare.

    Args:
        dataset: the dataset.
        further: more files.
    """
    found: dict[Path, Wanted] = {}
    for one in (*_needed(dataset), *_masks(dataset), *further, *_spare(dataset)):
        found.setdefault(one.path, one)
    return found


def _needed(dataset: Dataset) -> Iterator[Wanted]:
    for clip in dataset.clips:
        for path in clip.frames or ():
            if is_picture(path.name) or not path.is_file():  # a file in place of a folder: who read the table says so
                yield Wanted(path, PICTURE, clip.id)
        if clip.audio is not None:
            yield Wanted(clip.audio, AUDIO, clip.id)
        if clip.video is not None:
            seen = clip.frames or clip.video.suffix.lower() in SOUNDS
            tracks = tuple(t for t, lacks in ((VIDEO, not seen), (AUDIO, not clip.audio)) if lacks)
            yield Wanted(clip.video, VIDEO, clip.id, tracks or (VIDEO, AUDIO), spare=not tracks)


def _masks(dataset: Dataset) -> Iterator[Wanted]:
    for sample in dataset.samples:
        for path in sample.masks or ():
            if path is not None:
                yield Wanted(path, MASK, sample.clip)
    clip_of = _Clips(dataset.clips)
    for path in dataset.mask_files:
        yield Wanted(path, MASK, clip_of(path))


def _spare(dataset: Dataset) -> Iterator[Wanted]:
    clip_of = _Clips(dataset.clips)
    for path in dataset.spare_media:
        role = PICTURE if path.suffix.lower() in SUFFIXES else AUDIO if path.suffix.lower() in SOUNDS else VIDEO
        role = MASK if path.parent.name in MASK_FOLDERS else role
        yield Wanted(path, role, clip_of(path), (VIDEO, AUDIO) if role == VIDEO else (), spare=True)


class _Clips:
    """Finds the clip of a file by its name or that of a folder above it."""

    def __init__(self, clips: tuple[Clip, ...]) -> None:
        self._by_name = {short_name(clip): clip.id for clip in clips}

    def __call__(self, path: Path) -> str:
        names = (path.stem, path.parent.name, path.parent.parent.name)
        return next((self._by_name[name] for name in names if name in self._by_name), "")


def short_name(clip: Clip) -> str:
    """The name of a clip in file names: its id without the subset."""
    return clip.id.rpartition("/")[-1]
