"""Lengths: tracks that are not there, media much shorter or longer than their clip, pictures missing in a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from avpipe.pipeline.datasets.check.folders import Folders
from avpipe.pipeline.datasets.check.look import AUDIO, PICTURE, VIDEO
from avpipe.pipeline.datasets.check.looking import Seen
from avpipe.pipeline.datasets.check.wanted import Wanted
from avpipe.pipeline.datasets.own import is_own
from avpipe.pipeline.findings import FAULT, NOTE, Finding
from avpipe.pipeline.manifest import Dataset
from avpipe.pipeline.media.pictures import in_time, number_of

SHORT, LONG = 0.75, 1.25
"""Shares of a clip's nominal length: what is outside is not what the annotations were made on."""
SHORT_BY_PROTOCOL = ("music-avqa",)
"""Datasets whose authors repeat the end of shorter videos."""
_SHOWN = 10


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
        if tail := look.facts.get("tail"):
            yield Finding("odd-end", str(path), f"{tail}; all pictures and sound are there", level=NOTE)
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
    named: dict[Path, list[Wanted]] = defaultdict(list)
    for path, one in wanted.items():
        if one.role == PICTURE and not one.spare and not one.is_folder:
            named[path.parent].append(one)
    segments = {clip.id: clip.segments for clip in dataset.clips}
    rates: dict[Path, float] = {}
    for folder, ones in named.items():
        if len({one.clip for one in ones}) > 1:
            continue
        listing = folders.listing(folder)
        series = [path.name for path in in_time(folder, listing)]  # as extraction takes them
        rates[folder] = sum(name in listing for name in series) / segments.get(ones[0].clip, 1)
        if all(one.path.name in listing for one in ones):  # else they are named one by one
            yield from _gap(folder, series, [name for name in series if name not in listing], is_own(dataset.name))
    usual = median(rates.values()) if rates else 0
    for folder, rate in rates.items():
        if 0 < rate < SHORT * usual:
            what = f"{rate:.3g} pictures for each segment of the clip, where most clips have {usual:.3g}"
            yield Finding("short-media", str(folder), what)


def _gap(folder: Path, series: Sequence[str], lost: Sequence[str], own: bool) -> Iterator[Finding]:
    """Numbers that are missing from a series; those before its first one for official data, which count from 0 or 1."""
    numbers = [number for name in series if (number := number_of(name)) is not None]
    lacking = [number for name in lost if (number := number_of(name)) is not None]
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    if not own and 1 < first <= len(numbers):
        lacking, first = [*range(1, first), *lacking], 1
    if lacking:
        shown = ", ".join(map(str, lacking[:_SHOWN])) + (f" and {len(lacking) - _SHOWN} more" * (len(lacking) > _SHOWN))
        yield Finding("missing-frame", str(folder), f"picture {shown} of {first} to {last} is missing")
