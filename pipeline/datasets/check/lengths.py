"""Lengths: tracks that are not there, media much shorter or longer than their clip, pictures missing in a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from avpipe.pipeline.datasets.check.folders import Folders, is_junk
from avpipe.pipeline.datasets.check.look import AUDIO, PICTURE, VIDEO
from avpipe.pipeline.datasets.check.looking import Seen
from avpipe.pipeline.datasets.check.wanted import Wanted, number_of
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.findings import FAULT, NOTE, Finding
from avpipe.pipeline.manifest import Dataset

SHORT, LONG = 0.75, 1.25
"""Shares of a clip's nominal length: what is outside is not what the annotations were made on."""
SHORT_BY_PROTOCOL = ("music-avqa",)
"""Datasets whose authors repeat the end of shorter videos."""


def lengths(dataset: Dataset, wanted: Mapping[Path, Wanted], seen: Seen) -> Iterator[Finding]:
    """Videos without a track that they need, and media much shorter or longer than their clip, and silent sound."""
    seconds_of = {clip.id: clip.segments * dataset.timeline.segment_seconds for clip in dataset.clips}
    for path, look in seen.items():
        one = wanted[path]
        if look.kind or one.role not in (VIDEO, AUDIO) or not look.facts:
            continue
        tracks = {kind: look.facts.get(kind) for kind in one.tracks} or {AUDIO: look.facts["seconds"]}
        for kind, seconds in tracks.items():
            if seconds is None:
                lacking = "there are no pictures in it" if kind == VIDEO else "there is no sound in it"
                yield Finding(f"no-{kind}", str(path), f"no {kind} track: {lacking}")
        if look.facts.get("silent"):
            yield Finding("silent-audio", str(path), "silent: every sample is the same", level=NOTE)
        there = {kind: seconds for kind, seconds in tracks.items() if seconds is not None}
        if one.clip in seconds_of and there:
            yield from _length(dataset.name, str(path), there, seconds_of[one.clip])


def _length(name: str, where: str, tracks: Mapping[str, float], wanted: float) -> Iterator[Finding]:
    kind, shortest = min(tracks.items(), key=lambda item: item[1])
    longest = max(tracks.values())
    if shortest < SHORT * wanted:
        level = NOTE if name in SHORT_BY_PROTOCOL and longest < SHORT * wanted else FAULT
        of_track = f"{kind} of {shortest:.1f} s" if len(tracks) > 1 else f"{shortest:.1f} s"
        yield Finding("short-media", where, f"{of_track} for a clip of {wanted:g} s", level=level)
    elif longest > LONG * wanted and not is_own(name):
        yield Finding("long-media", where, f"{longest:.1f} s for a clip of {wanted:g} s: was it not cut?")


def gaps(dataset: Dataset, wanted: Mapping[Path, Wanted], folders: Folders) -> Iterator[Finding]:
    """Numbered pictures of which some are missing, or that are far fewer than those of most clips.

    Only for pictures taken at a rate of the user's choice, of which the clips name some.
    """
    named: dict[Path, set[str]] = defaultdict(set)
    for path, one in wanted.items():
        if one.role == PICTURE and not one.spare:
            named[path.parent].add(path.name)
    segments = {clip.id: clip.segments for clip in dataset.clips}
    rates: dict[Path, float] = {}
    for folder, names in named.items():
        if len({wanted[folder / name].clip for name in names}) > 1:
            continue
        numbers = _numbers(folders, folder, next(iter(names)))
        clip = wanted[folder / next(iter(names))].clip
        rates[folder] = len(numbers) / segments.get(clip, 1)
        lacking = sorted(set(range(min(1, min(numbers, default=1)), max(numbers, default=0))) - numbers)
        if lacking and not any((folder / name) in wanted and folders.kind(folder / name) is None for name in names):
            shown = ", ".join(map(str, lacking[:10])) + (f" and {len(lacking) - 10} more" if len(lacking) > 10 else "")
            yield Finding("missing-frame", str(folder), f"picture {shown} of 1 to {max(numbers)} is missing")
    usual = median(rates.values()) if rates else 0
    for folder, rate in rates.items():
        if 0 < rate < SHORT * usual:
            what = f"{rate:.3g} pictures for each segment of the clip, where most clips have {usual:.3g}"
            yield Finding("short-media", str(folder), what)


def _numbers(folders: Folders, folder: Path, like: str) -> set[int]:
    """Numbers of the pictures in a folder that are named as one of them."""
    suffix, stem = Path(like).suffix, Path(like).stem.rstrip("0123456789")
    names = (n for n in folders.listing(folder) if n.startswith(stem) and n.endswith(suffix) and not is_junk(n))
    return {number for name in names if (number := number_of(name)) is not None}
