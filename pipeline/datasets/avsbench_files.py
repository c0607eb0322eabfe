"""Where files of S4 and MS3 lie: as in the authors' archive, or flattened into one folder a kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.manifest import Clip

Files = tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """What was found of a subset.

    Attributes:
        table: its table.
        data: the folder that has `visual_frames`, `gt_masks`, `audio_wav` and `raw_videos`.
        flat: whether those hold files, without folders for splits, categories and clips.
    """

    table: Path
    data: Path
    flat: bool


def markers(base: str, short: str, table: str) -> tuple[str, ...]:
    """Where the table of a subset may lie below the root: `base` is its folder in the archive, `short` the flat one."""
    return f"{base}/{table}", table, f"{short}/{table}"


def find_layout(root: Path, base: str, short: str, table: str) -> Layout:
    """Finds the files of a subset, one of whose markers exists; arguments as in `markers`."""
    file = next(root / marker for marker in markers(base, short, table) if (root / marker).is_file())
    official = file.parent / f"{short}_data"
    if not official.is_dir():
        for data in (root / short, file.parent):
            if any((data / kind).is_dir() for kind in ("visual_frames", "gt_masks")):
                return Layout(file, data, flat=True)
    return Layout(file, official, flat=False)


class Shelf:
    """Which files are there, each folder listed once: tens of thousands of questions to the disk take long."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def has(self, file: Path) -> bool:
        """Whether a file is there."""
        folder, name = os.path.split(file)  # several times as fast as asking the Path
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(entry.name for entry in os.scandir(folder) if entry.is_file())
            except OSError:
                self._names[folder] = frozenset()
        return name in self._names[folder]

    def numbered(self, folder: Path, stems: Sequence[str], numbers: Sequence[int]) -> Files:
        """Pictures `<stem>_<number>.png`, of the first stem that has any; of the first stem where none has."""
        ways = [tuple(folder / f"{stem}_{number}.png" for number in numbers) for stem in stems]
        return next((files for files in ways if any(map(self.has, files))), ways[0])


def object_clip(shelf: Shelf, clip_id: str, frames: Files, audio: Path, video: Path, source: str) -> Clip:
    """A clip of S4 or MS3 with what exists of it; where nothing does, with the files that should.

    Args:
        shelf: knows which files are there.
        clip_id: its id.
        frames: one picture per segment.
        audio: its wav.
        video: the raw video that stands in for missing frames or a missing wav.
        source: id of the recording.
    """
    if not shelf.has(video):
        return Clip(clip_id, len(frames), frames=frames, audio=audio, source=source)
    return Clip(
        clip_id,
        len(frames),
        video=video,
        frames=frames if all(map(shelf.has, frames)) else None,
        audio=audio if shelf.has(audio) else None,
        source=source,
    )
