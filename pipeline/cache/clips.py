"""A committed clip as readers see it, put together from the records of its unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avpipe.pipeline.cache.records import CommittedClip
from avpipe.pipeline.cache.values import mask_array


@dataclass(frozen=True)
class ClipRows:
    """Where a committed clip lies.

    Attributes:
        id: the clip's id.
        start: its first row, the same in every array.
        segments: its number of rows.
        masks: modality -> bool [T], True where there was media.
        provenance: decoder, library versions, device.
    """

    id: str
    start: int
    segments: int
    masks: dict[str, np.ndarray]
    provenance: dict[str, str]


def merge(known: ClipRows | None, clip: CommittedClip) -> ClipRows:
    """Adds what a further record says of a clip.

    Args:
        known: what earlier records of the unit say, None for the first.
        clip: the clip in the further record.

    Returns:
        Masks of both, the earlier first; provenance of both, differing values joined by "; ".
    """
    masks = {modality: mask_array(text) for modality, text in clip.masks.items()}
    if known is None:
        return ClipRows(clip.id, clip.start, clip.segments, masks, dict(clip.provenance))
    provenance = dict(known.provenance)
    for key, value in clip.provenance.items():
        if provenance.setdefault(key, value) != value and value not in provenance[key].split("; "):
            provenance[key] += f"; {value}"
    return ClipRows(clip.id, clip.start, clip.segments, {**masks, **known.masks}, provenance)
