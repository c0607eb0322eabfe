"""Clips to train on: random frames and sound, labelled and extracted as any dataset. Imports no torch by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from avpipe.pipeline.errors import EnvironmentLacking
from avpipe.pipeline.manifest import Clip, Dataset, Sample
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.backbones import BackboneFacts, facts_of
from avpipe.stages.bench.pairs import CLASSES, MASK_SIZE, Pair
from avpipe.stages.job import ExtractJob, resolve

SPARE_BYTES = 1 << 30
CACHE, MEDIA = "cache", "media"


def facts_of_pair(pair: Pair) -> dict[str, BackboneFacts]:
    """What is known of both backbones, by modality."""
    return {choice.modality: facts_of(choice, Timeline()) for choice in (pair.visual, pair.audio)}


def dataset_of(folder: Path, task: str, clips: int, segments: int) -> Dataset:
    """The clips that `write` makes, labelled for a task: `events` like AVE, or `segmentation`, a mask a segment."""
    media, random = folder / MEDIA, np.random.default_rng(0)
    names = [f"clip{number}" for number in range(clips)]
    pictures = {name: tuple(media / f"{name}-{each}.png" for each in range(segments)) for name in names}
    found = tuple(Clip(n, segments, frames=pictures[n], audio=media / f"{n}.wav") for n in names)
    masks = tuple(media / f"mask-{each}.png" for each in range(segments))
    samples = []
    for name in names:
        labels = tuple(int(label) for label in random.integers(0, CLASSES, segments))
        wanted = {"events": labels} if task == "events" else {"masks": masks}
        samples.append(Sample(name, name, "train", **wanted))
    classes = tuple(f"class {number}" for number in range(CLASSES)) if task == "events" else ("background", "object")
    return Dataset("bench", folder, task, classes, Timeline(), found, tuple(samples))


def job_of(pair: Pair, folder: Path, dataset: Dataset, device: str) -> ExtractJob:
    """The extraction of every block of both backbones."""
    return resolve(
        dataset,
        {"visual": pair.visual, "audio": pair.audio},
        cache=folder / CACHE,
        layers="all",
        dtype="float16",
        decoder="decord",
        device=device,
        batch=None,
        deadline_seconds=600.0,
    )


def require_room(folder: Path, job: ExtractJob, rows: int, less: str) -> None:
    """Checks that the features of so many rows fit on the disk; `less` names the options that make them fewer.

    Raises:
        EnvironmentLacking: they do not.
    """
    need, free = rows * sum(array.row_bytes for array in job.arrays()), shutil.disk_usage(folder).free
    if free < need + SPARE_BYTES:
        raise EnvironmentLacking(
            f"{folder} has {_size(free)} free, and {_size(need)} and {_size(SPARE_BYTES)} to spare are needed: choose "
            f"less with {less}, or another disk with --folder"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def write(dataset: Dataset, job: ExtractJob, seed: int = 0) -> None:
    """Writes frames of the size that the backbone takes, sound at its rate, and masks; all are random."""
    from avpipe.stages.demo.encode import write_png, write_wav

    random, timeline = np.random.default_rng(seed), job.media.timeline
    assert job.media.frame_size is not None
    (dataset.root / MEDIA).mkdir()
    for clip in dataset.clips:
        for picture in clip.frames or ():
            write_png(picture, random.integers(0, 256, (*job.media.frame_size, 3), dtype=np.uint8))
        length = clip.segments * timeline.samples_per_segment
        assert clip.audio is not None
        write_wav(clip.audio, random.uniform(-0.5, 0.5, (1, length)).astype(np.float32), timeline.sample_rate)
    for number in range(dataset.clips[0].segments):
        coarse = random.integers(0, 2, (7, 7), dtype=np.uint8) * 255
        mask = coarse.repeat(MASK_SIZE[0] // 7, axis=0).repeat(MASK_SIZE[1] // 7, axis=1)
        write_png(dataset.root / MEDIA / f"mask-{number}.png", mask)
