"""Files of different clips with the same content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import xxhash

from avpipe.pipeline.datasets.check.leakage import APART
from avpipe.pipeline.datasets.check.look import AUDIO, PICTURE, VIDEO
from avpipe.pipeline.datasets.check.looking import Seen
from avpipe.pipeline.datasets.check.wanted import Wanted
from avpipe.pipeline.findings import NOTE, Finding
from avpipe.pipeline.manifest import Clip, Dataset

_PIECE_BYTES = 1 << 20


def duplicates(wanted: Mapping[Path, Wanted], seen: Seen) -> Iterator[Finding]:
    """A finding for each file with the bytes of an earlier one of another clip; for pictures, each clip's as a whole.

    Videos are compared by size first. Silent sound is left out: it is reported as such.
    """
    groups: dict[object, list[Path]] = defaultdict(list)
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path, look in seen.items():
        role = wanted[path].role
        if role == AUDIO and "hash" in look.facts and not look.facts.get("silent"):
            groups[look.facts["hash"]].append(path)
        elif role == PICTURE and "hash" in look.facts:
            pictures[wanted[path].clip].append(path)
        elif role == VIDEO and look.facts:
            groups[look.facts["bytes"]].append(path)
    for paths in groups.values():
        yield from _same(paths, wanted)
    clips: dict[frozenset[str], list[Path]] = defaultdict(list)
    for paths in pictures.values():
        clips[frozenset(seen[path].facts["hash"] for path in paths)].append(paths[0])
    for paths in clips.values():
        for path in paths[1:]:
            yield Finding("duplicate-content", str(path.parent), f"the same pictures as {paths[0].parent}")


def shared_media(dataset: Dataset) -> Iterator[Finding]:
    """A note for each clip that has the very files of another one, as rows of a table may.

    A fault where another split has it and the table says that they are of two recordings: then it is no leakage by
    recording, which is told by itself.
    """
    first: dict[tuple[Path, ...], Clip] = {}
    split_of = {sample.clip: sample.split for sample in dataset.samples}
    for clip in dataset.clips:
        files = clip.media()
        other = first.setdefault(files, clip)
        if not files or other is clip:
            continue
        splits, what = (split_of[other.id], split_of[clip.id]), f"clips {other.id!r} and {clip.id!r} are this one file"
        if splits[0] == splits[1]:
            yield Finding("same-media", str(files[0]), what, level=NOTE)
        elif other.source != clip.source:
            yield Finding("leakage", str(files[0]), f"{what}, in {splits[0]} and in {splits[1]}", APART)


def _same(paths: list[Path], wanted: Mapping[Path, Wanted]) -> Iterator[Finding]:
    if len({wanted[path].clip for path in paths}) < 2:
        return
    first: dict[str, Path] = {}
    for path in paths:
        of = first.setdefault(_hash(path), path)
        if wanted[of].clip != wanted[path].clip:
            yield Finding("duplicate-content", str(path), f"the same bytes as {of}")


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
