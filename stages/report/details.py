"""What the page shows of single clips: media, where the meta-tokens look, masks. Made one clip at a time.

planned, notes = plan(sources, places, budget=MEDIA_BYTES)
for place, detail in details(sources, viewer, planned): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from avpipe.pipeline import progress
from avpipe.pipeline.cache import Cache
from avpipe.stages.features import ClipFeatures
from avpipe.stages.job import RAW_ARRAYS
from avpipe.stages.metrics import avs
from avpipe.stages.report import attention, class_maps, media, samples
from avpipe.stages.report.caveats import counted
from avpipe.stages.report.sources import Sources
from avpipe.stages.tasks import AnyTask, SegmentationTask, SemanticTask, nearest

MEDIA_BYTES = 48 << 20
"""What the media of all clips may take in the page, about."""
FRAME_SHARE, SOUND_SHARE, MASK_SHARE = 0.15, 0.7, 0.5
"""What compression leaves of frames, of sound and of the two pictures of a mask, at most as a rule."""
MAPS = 2
"""Maps of attention of one tap, one for each of LCD's mechanisms."""
BASE64 = 4 / 3
NAMED = 3
"""Clips that a note names."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One detail to come.

    Attributes:
        place: of the clip in the page's list.
        index: of its sample in `sources.samples`.
        video: the file to play; None: stored frames and sound.
    """

    place: int
    index: int
    video: Path | None


@dataclass(frozen=True, slots=True)
class Viewer:
    """What details are computed with.

    Attributes:
        task: rules for the samples of the split.
        model: the trained model; None where there are no features.
        data: features of the samples; None where there are none.
        device: where the model lies.
    """

    task: AnyTask
    model: nn.Module | None
    data: ClipFeatures | None
    device: torch.device


def plan(
    sources: Sources, order: Sequence[int], places: Sequence[int], budget: int = MEDIA_BYTES
) -> tuple[list[Planned], list[str]]:
    """Which clips get a detail, and which of them their source video, so that all fits into the page.

    Stored frames and sound come first, then videos in the order of `places` while there is room.

    Args:
        sources: the run and its data.
        order: for each place in the list, its sample's place in `sources.samples`.
        places: wanted, the most important first.
        budget: bytes of base64 in all, by estimate.

    Returns:
        the plan, without clips of which there is nothing to show, and notes on what did not fit or cannot be played.
    """
    lengths = {place: int(sources.predictions["segments"][order[place]]) for place in places}
    frame, sound = _segment_bytes(sources)
    total, kept = 0.0, []
    for place in places:
        total += lengths[place] * (frame + sound)
        if total > budget:
            break
        kept.append(place)
    spent = sum(lengths[place] * (frame + sound) for place in kept)
    notes = _dropped(len(kept), len(places), budget)
    planned, without = [], defaultdict(list)
    videos = media.playable_videos([sources.clips.get(sources.samples[order[place]].clip) for place in kept])
    for place, (file, why) in zip(kept, videos, strict=True):
        sample = sources.samples[order[place]]
        if file is not None:
            more = file.stat().st_size * BASE64 - lengths[place] * sound
            if spent + more > budget:
                file, why = None, f"whose video would take the page beyond {budget >> 20} MiB of media"
            else:
                spent += more
        if file is None:
            without[why].append(sample.id)
        if file is not None or sources.cache is not None or sample.masks is not None:
            planned.append(Planned(place, order[place], file))
    instead = "Without their video" if sources.cache is None else "Shown from stored frames and sound"
    for why, ids in without.items():
        shown = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
        notes.append(f"{instead}: {len(ids)} of {counted(len(kept), 'clip')} {why} ({shown}).")
    return planned, notes


def details(sources: Sources, viewer: Viewer, planned: Sequence[Planned]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and detail of each planned clip, one at a time."""
    stored = _stored_clips(sources.cache)
    with progress.task("clips of the report", len(planned), "clips") as bar:
        for one in planned:
            yield one.place, _detail(sources, viewer, one, stored)
            bar.advance()


def attention_lacking(sources: Sources, viewer: Viewer) -> list[str]:
    """Notes on layers whose attention no clip shows; see `attention.lacking`."""
    if viewer.model is None or viewer.data is None or sources.cache is None or not viewer.data.held:
        return []
    batch = viewer.data.batch([viewer.data.held[0]]).to(viewer.device)
    return attention.lacking(viewer.model, batch, attention.backbones_of(sources.cache))


def lacking(cache: Cache | None) -> list[str]:
    """A note where a cache has no stored frames or no stored sound."""
    if cache is None:
        return []
    names = {"visual": "frames", "audio": "sound"}
    gone = [what for modality, what in names.items() if RAW_ARRAYS[modality] not in cache.arrays]
    return [f"The cache has no stored {' and no stored '.join(gone)}."] if gone else []


def _detail(sources: Sources, viewer: Viewer, planned: Planned, stored: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    sample, cache = sources.samples[planned.index], sources.cache
    raw = {}
    for modality, clips in stored.items():
        if cache is not None and sample.clip in clips:
            array = RAW_ARRAYS[modality]
            raw[modality] = cache.read(cache.rows([sample.clip]), [array])[array]
    frames, sound = raw.get("visual"), raw.get("audio")
    spec = cache.specs.get("audio") if cache else None
    rate = int(spec.fields.get("media", {}).get("sample_rate", 0)) if spec else 0
    audio = cache.specs["audio"].fields.get("backbone", {}) if cache and "audio" in cache.specs else {}
    return {
        "video": media.video(planned.video) if planned.video else None,
        "audio": media.sound(sound, rate) if sound is not None and planned.video is None else None,
        "frames": media.frames(frames) if frames is not None else None,
        "frame_size": list(frames.shape[1:3]) if frames is not None else None,
        "spectrogram": media.spectrograms(sound, audio) if sound is not None else None,
        "attention": _attention(sources, viewer, planned.index),
        "masks": _masks(sources, viewer.task, planned.index),
    }


def _attention(sources: Sources, viewer: Viewer, index: int) -> dict[str, Any] | None:
    if viewer.model is None or viewer.data is None or sources.cache is None or index not in viewer.data.held:
        return None
    batch = viewer.data.batch([index]).to(viewer.device)
    return attention.maps(viewer.model, batch, attention.backbones_of(sources.cache))


def _masks(sources: Sources, task: AnyTask, index: int) -> dict[str, Any] | None:
    """True and predicted masks of a sample at the size of the predictions."""
    if isinstance(task, SemanticTask):
        return class_maps.pictures(sources, task, index)
    if not isinstance(task, SegmentationTask):
        return None
    chance = avs.probabilities(samples.predictions(sources, index))
    truth = [None if mask is None else nearest(mask, task.mask_size) for mask in task.truth(index)]
    return {
        "size": list(task.mask_size),
        "truth": [None if mask is None else media.grey(mask.astype(np.uint8) * 255) for mask in truth],
        "predicted": [media.grey(media.levels(one)) for one in chance],
    }


def _stored_clips(cache: Cache | None) -> dict[str, frozenset[str]]:
    """Clips whose frames (`visual`) and sound (`audio`) a cache has."""
    if cache is None:
        return {}
    return {m: frozenset(cache.clips([array])) for m, array in RAW_ARRAYS.items() if array in cache.arrays}


def _segment_bytes(sources: Sources) -> tuple[float, float]:
    """Bytes in the page of one segment's pictures, maps of attention included, and of its sound, by estimate."""
    arrays = sources.cache.arrays if sources.cache else {}
    raw = {m: int(arrays[name].row_bytes) if name in arrays else 0 for m, name in RAW_ARRAYS.items()}
    height, width = sources.config.model.mask_size
    tokens = sum(shape[0] for taps in sources.config.model.shapes.values() for shape in taps.values())
    pictures = raw["visual"] * FRAME_SHARE + height * width * MASK_SHARE + tokens * MAPS
    return pictures * BASE64, raw["audio"] * SOUND_SHARE * BASE64


def _dropped(kept: int, wanted: int, budget: int) -> list[str]:
    if kept == wanted:
        return []
    shown = f"Details are shown of {counted(kept, 'clip')}, not of {wanted}"
    return [f"{shown}: the media of all would exceed {budget >> 20} MiB."]
