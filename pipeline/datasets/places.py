"""Where the media of a clip lie: one video, or pictures and a sound file beside each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.manifest import Clip
from avpipe.pipeline.media.pictures import in_time, is_picture, names_in

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
SOUND_SUFFIXES = (".wav", ".flac", ".npy")
"""`.npy` holds samples; see `media.listeners`."""

Pick = Callable[[Sequence[Path]], tuple[Path, ...] | None]
"""From all pictures of a clip, in order, those of its segments; None where there is no picture."""


@dataclass(frozen=True)
class Places:
    """The media of a dataset, its folders listed once.

    Attributes:
        videos: video files by name without suffix.
        frames: folders of pictures by name.
        sounds: sound files by name without suffix.
        video_folder: where a video that is missing should be.
        sound_folder: where a sound that is missing should be.
    """

    videos: dict[str, Path]
    frames: dict[str, Path]
    sounds: dict[str, Path]
    video_folder: Path
    sound_folder: Path

    def clip(self, clip_id: str, name: str, segments: int, pick: Pick, *, source: str = "") -> Clip:
        """The clip whose files are called `name`; where nothing is there, with the video that should be.

        The video comes first, because its pictures and its sound run on one clock. Without it pictures and sound are
        taken from their folders; if one of the two is missing there, the clip names what should be. For pictures that
        is the video where the dataset has any, else pictures as they lie in the folders of others.
        """
        video = self.videos.get(name)
        expected = self.video_folder / f"{name}.mp4"
        if video is not None:
            return Clip(clip_id, segments, video=video, source=source)
        pictures = pick(in_time(self.frames[name])) if name in self.frames else None
        sound = self.sounds.get(name)
        if pictures is None and self.frames and not self.videos:
            pictures = self._pictures_expected(name, pick)
        if pictures is None:
            return Clip(clip_id, segments, video=expected, audio=sound, source=source)
        return Clip(clip_id, segments, frames=pictures, audio=sound or self.sound_folder / f"{name}.wav", source=source)

    def _pictures_expected(self, name: str, pick: Pick) -> tuple[Path, ...] | None:
        """The pictures of a clip that has none, called as those of the first clip that has some.

        Where its folder has some that cannot be used, that folder.
        """
        home = self.frames.get(name) or next(iter(self.frames.values())).parent / name
        if any(map(is_picture, names_in(home))):
            return (home,)
        examples = (pick(in_time(folder)) for folder in self.frames.values())
        example = next((pictures for pictures in examples if pictures), None)
        return example and tuple(home / picture.name for picture in example)


def find_places(bases: Iterable[Path], videos: Sequence[str], frames: Sequence[str], sounds: Sequence[str]) -> Places:
    """Lists the media below some folders.

    Args:
        bases: folders to look in; an earlier one counts more.
        videos: names of folders of videos below each base; an earlier one counts more.
        frames: the same for folders that have one folder of pictures a clip.
        sounds: the same for folders of sound files.
    """
    bases = tuple(dict.fromkeys(bases))

    def below(names: Sequence[str]) -> list[Path]:
        return [base / name for base in bases for name in names]

    def home(names: Sequence[str]) -> Path:
        return next((folder for folder in below(names) if folder.is_dir()), bases[0] / names[0])

    return Places(
        videos=_by_name(below(videos), VIDEO_SUFFIXES),
        frames=_by_name(below(frames), ("",)),
        sounds=_by_name(below(sounds), SOUND_SUFFIXES),
        video_folder=home(videos),
        sound_folder=home(sounds),
    )


def _by_name(folders: Iterable[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """Entries of folders by their name without one of the suffixes; earlier folders and suffixes come first."""
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            names = {entry.name for entry in os.scandir(folder)}
        except OSError:
            continue
        for suffix in suffixes:
            for name in sorted(n for n in names if n.endswith(suffix)):
                found.setdefault(name.removesuffix(suffix), folder / name)
    return found
