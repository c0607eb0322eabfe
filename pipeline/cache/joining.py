"""Whether a writer's work may join a unit in which others have committed before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from avpipe.pipeline.cache.records import CommittedClip, Record


def may_join(
    earlier: Sequence[Record], done: Iterable[CommittedClip], rejected: Collection[str], *, raced: bool
) -> bool:
    """Whether a writer's clips agree with those that the unit's first record fixed, so that its arrays may join them.

    Arrays join only if every clip of the unit is in them, apart from clips that the same record rejects for them. A
    writer that did the same arrays as somebody else and rejected what the other could read is not trusted to reject: it
    gives up, and the unit is planned again for the arrays that it lacks.

    Args:
        earlier: records of the unit, in order; with none there is nothing to agree with.
        done: clips that the writer completed.
        rejected: ids of clips that it rejected.
        raced: whether somebody else has committed some of its arrays.
    """
    if not earlier:
        return True
    fixed = {clip.id: (clip.start, clip.segments) for clip in earlier[0].clips}
    for record in earlier[1:]:
        for entry in record.quarantined:
            fixed.pop(entry.clip, None)
    mine = {clip.id: (clip.start, clip.segments) for clip in done}
    missing = fixed.keys() - mine.keys()
    return mine.items() <= fixed.items() and (not missing or (not raced and missing <= set(rejected)))
