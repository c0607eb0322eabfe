"""Which clips are decoded, or read, ahead of the one in the backbone: bounded in clips and in bytes.

It reaches into the next unit, whose lease is taken for that, but only once the unit before the open one is committed:
a process holds two units at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any

from avpipe.pipeline.cache import UnitWork
from avpipe.pipeline.manifest import Clip
from avpipe.stages.clip_media import MediaSource, Modalities, decoders_of, to_decode, to_read
from avpipe.stages.job import RAW_ARRAYS, ExtractJob

SPARE_CLIPS = 2
"""Clips beside those that decoders are at: the one that is needed now, and one that waits for the backbone."""
READ_CLIPS = 3
"""Clips whose stored media are read ahead, the one that is needed now included."""
MOST_BYTES = 512 << 20
"""Bytes of the frames and samples of all that are decoded, and as many of all that are read; one clip may have more."""

Ahead = Callable[[], "tuple[UnitWork, Mapping[str, Clip]] | None"]
"""Claims the unit that comes after the open one and gives it, with the media of its clips; None where there is none."""


class Lookahead:
    """Decodes and reads ahead for one open unit.

    Args:
        source: decodes and reads.
        job: the extraction.
        work: the open unit, of which `source.begin` has been told.
        clips: media by clip id.
        ahead: asked once for the unit that comes next.
        before: ends when the unit before this one is committed; None where there was none.
    """

    def __init__(
        self,
        source: MediaSource,
        job: ExtractJob,
        work: UnitWork,
        clips: Mapping[str, Clip],
        ahead: Ahead,
        before: Future[Any] | None,
    ) -> None:
        self._source, self._work, self._ahead, self._before = source, work, ahead, before
        self._most_clips = decoders_of(job) + SPARE_CLIPS
        self._sizes = {array.name: array.row_bytes for array in job.arrays()}
        self._coming = _to_decode(work, clips)
        self._asked = not to_decode(work)

    def reach(self, position: int) -> None:
        """Starts what is to be under way while clip number `position` of the open unit is needed.

        Where the next unit cannot be had yet, it waits for that as long as that clip is being decoded; and beyond that
        if the decoders would have nothing to do while the clip is in the backbone.
        """
        self._read_from(position)
        self._decode_from(position)
        if self._before is not None and self._wants_more(position):
            current = self._source.decoding(self._work.clips[position].id, to_decode(self._work))
            is_last = position + 1 == len(self._work.clips)
            wait([self._before] if is_last or current is None else [self._before, current], return_when=FIRST_COMPLETED)
            self._decode_from(position)

    def _read_from(self, position: int) -> None:
        modalities, held = to_read(self._work), 0
        for number, planned in enumerate(self._work.clips[position : position + READ_CLIPS]):
            held += self._bytes(planned.segments, modalities)
            if held > MOST_BYTES and number:
                return
            self._source.read_ahead(self._work, planned)

    def _decode_from(self, position: int) -> None:
        if self._wants_more(position) and (self._before is None or self._before.done()):
            self._coming, self._asked = [*self._coming, *_to_decode(*(self._ahead() or (self._work, {})))], True
        held = 0
        for number, entry in enumerate(islice(self._coming, position, position + self._most_clips)):
            if entry is None:
                continue
            clip, modalities = entry
            held += self._bytes(clip.segments, modalities)
            if held > MOST_BYTES and number:
                return
            self._source.prefetch(clip, modalities)

    def _bytes(self, segments: int, modalities: Modalities) -> int:
        return segments * sum(self._sizes[RAW_ARRAYS[modality]] for modality in modalities)

    def _wants_more(self, position: int) -> bool:
        """Whether the next unit should be asked for, and was not."""
        return not self._asked and position + self._most_clips > len(self._coming)


def _to_decode(work: UnitWork, clips: Mapping[str, Clip]) -> Sequence[tuple[Clip, Modalities] | None]:
    """What is to be decoded of each clip of a unit, in order; None for a clip whose media are not known."""
    modalities = to_decode(work)
    return [(clips[planned.id], modalities) if planned.id in clips else None for planned in work.clips]
