"""What there is to extract (clips) and to learn (samples), whatever the layout on disk.

Clips and samples are kept apart because several samples or questions may lie on one video: it is cached once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avpipe.pipeline.findings import Finding
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
        frames: one image file per segment in time order, used in place of the video's frames when given; or a folder
            alone, of which no pictures can be taken.
        audio: an audio file; used in place of the video's track when given.
        source: id of the recording that it was cut from, where other clips may be cut from the same one; else "".
        sha256: files of the clip whose content is known, and the SHA-256 that each must have, hexadecimal.
    """

    id: str
    segments: int
    video: Path | None = None
    frames: tuple[Path, ...] | None = None
    audio: Path | None = None
    source: str = ""
    sha256: tuple[tuple[Path, str], ...] = ()

    def absolute(self) -> Clip:
        """The same clip with absolute paths, for a process with another working folder."""
        return replace(
            self,
            video=self.video and self.video.absolute(),
            frames=self.frames and tuple(path.absolute() for path in self.frames),
            audio=self.audio and self.audio.absolute(),
            sha256=tuple((path.absolute(), digest) for path, digest in self.sha256),
        )

    def media(self) -> tuple[Path, ...]:
        """Every file that the clip is read from."""
        files = [*(self.frames or ()), *([self.audio] if self.audio else [])]
        if self.video and not (self.frames and self.audio):
            files.append(self.video)
        return tuple(files)


@dataclass(frozen=True, slots=True)
class Event:
    """A class that is on from segment `start` to segment `end` - 1; nothing is on where `end` is not above `start`."""

    class_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a clip.

    Attributes:
        template: its words, with placeholders such as `<Object>` where `values` belong.
        values: what stands for the placeholders, in order.
        type: what it asks about and how, such as `Audio-Visual/Counting`.
        answer: place of the right answer in the dataset's classes.
        number: id that its release gives it, None where there is none; several may have the same.
    """

    template: str
    values: tuple[str, ...]
    type: str
    answer: int
    number: int | None = None

    @property
    def text(self) -> str:
        """The question with its values filled in."""
        filled = iter(self.values)
        return re.sub(r"<\w+>", lambda match: next(filled, match[0]), self.template)


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
        labels: ids of the classes that occur anywhere in the clip (parsing), else None.
        audio_events: what is heard, and when (parsing); None where only `labels` are known.
        visual_events: what is seen, and when (parsing); None where only `labels` are known.
        question: what is asked (qa), else None.
        segments: number of segments of its clip (parsing, whose labels do not tell), else 0.
    """

    id: str
    clip: str
    split: str
    subset: str = ""
    events: tuple[int, ...] | None = None
    masks: tuple[Path | None, ...] | None = None
    labels: tuple[int, ...] | None = None
    audio_events: tuple[Event, ...] | None = None
    visual_events: tuple[Event, ...] | None = None
    question: Question | None = None
    segments: int = 0


@dataclass(frozen=True)
class Dataset:
    """A dataset as found on disk, ready to extract and to train on.

    Attributes:
        name: name used on the command line (`ave`, `avsbench-ms3`).
        root: folder it was found in.
        task: `events` (a class per segment), `parsing` (classes heard and classes seen per segment, weak labels for
            training), `segmentation` (a binary mask per segment), `semantic` (a mask of class ids per segment), `qa`
            (questions), or `mixed` where its subsets differ: then one subset has to be named for training.
        classes: class names in official order; `background` is last for events, first for semantic; the answers for
            qa; empty for mixed.
        timeline: how clips are cut.
        clips: what there is to extract.
        samples: what there is to learn.
        subsets: names of the subsets found, empty where the dataset has none.
        backbones: default backbones: keys `visual`, `audio`, `layers`; see `data_manifests/`.
        media: policies that its files name, such as `short_clip: repeat`; see `media.policies`.
        findings: what is wrong or odd in its annotations, and in which of its files exist.
        options: what the user chose about reading it, by name; see `datasets.registry`.
        spare_media: media files that its layout has beside those that the clips are read from, there or not.
        mask_files: every mask file that its layout has, there or not; empty where the samples name them all.
        left_out: rows of its files that cannot be used, each once, by what they would have counted as: `samples of
            train`, or `samples` where the split is not known; `audio events of test`, `audio events` and so on.
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
    findings: tuple[Finding, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    spare_media: tuple[Path, ...] = ()
    mask_files: tuple[Path, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Its findings, one line each."""
        return tuple(map(str, self.findings))

    def split(self, name: str, subset: str | None = None) -> tuple[Sample, ...]:
        """Samples of one split, in official order; of one subset where `subset` is given."""
        return tuple(s for s in self.samples if s.split == name and subset in (None, s.subset))
