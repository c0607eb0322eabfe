"""What there is to extract (clips) and to learn (samples), whatever the layout on disk.

Clips and samples are kept apart because several samples or questions may lie on one video: it is cached once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avpipe.pipeline.timeline import Timeline

BACKGROUND = "background"
MIXED = "mixed"
"""Task of a dataset whose subsets have different ones."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Clip:
    """One stretch of media, cached once.

    Attributes:
        id: unique in the dataset; may start with "-" and hold dots. Clips of a subset are `<subset>/<name>`.
        segments: number of segments on the dataset's timeline.
        video: a container with video, audio or both; None where frames and audio are separate files.
        frames: one image file per segment in time order; used in place of the video's frames when given.
        audio: an audio file; used in place of the video's track when given.
    """

    id: str
    segments: int
    video: Path | None = None
    frames: tuple[Path, ...] | None = None
    audio: Path | None = None

    def absolute(self) -> Clip:
        """The same clip with absolute paths, for a process with another working folder."""
        return replace(
            self,
            video=self.video and self.video.absolute(),
            frames=self.frames and tuple(path.absolute() for path in self.frames),
            audio=self.audio and self.audio.absolute(),
        )

    def media(self) -> tuple[Path, ...]:
        """Every file that the clip is read from."""
        files = [*(self.frames or ()), *([self.audio] if self.audio else [])]
        if self.video and not (self.frames and self.audio):
            files.append(self.video)
        return tuple(files)


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled example on a clip.

    Attributes:
        id: unique in the dataset.
        clip: id of its clip.
        split: `train`, `val` or `test`.
        subset: name of the dataset's subset (`ms3`), or "" where there are none.
        events: class id of every segment (events task), else None.
        masks: mask file of every segment, None where a segment has no annotation (segmentation, semantic), else None.
    """

    id: str
    clip: str
    split: str
    subset: str = ""
    events: tuple[int, ...] | None = None
    masks: tuple[Path | None, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset as found on disk, ready to extract and to train on.

    Attributes:
        name: name used on the command line (`ave`, `avsbench-ms3`).
        root: folder it was found in.
        task: `events` (a class per segment), `segmentation` (a binary mask per segment), `semantic` (a mask of class
            ids per segment), or `mixed` where its subsets differ: then one subset has to be named for training.
        classes: class names in official order; `background` is last for events, first for semantic; empty for mixed.
        timeline: how clips are cut.
        clips: what there is to extract.
        samples: what there is to learn.
        subsets: names of the subsets found, empty where the dataset has none.
        backbones: default backbones: keys `visual`, `audio`, `layers`; see `data_manifests/`.
        notes: oddities found while reading, one line each.
    """

    name: str
    root: Path
    task: str
    classes: tuple[str, ...]
    timeline: Timeline
    clips: tuple[Clip, ...]
    samples: tuple[Sample, ...]
    subsets: tuple[str, ...] = ()
    backbones: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def split(self, name: str, subset: str | None = None) -> tuple[Sample, ...]:
        """Samples of one split, in official order; of one subset where `subset` is given."""
        return tuple(s for s in self.samples if s.split == name and subset in (None, s.subset))
