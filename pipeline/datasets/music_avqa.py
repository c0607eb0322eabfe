"""MUSIC-AVQA: questions about videos of music, in any of its releases; a video is one clip, whoever asks about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.datasets.music_avqa_rows import Asked, read_questions
from avpipe.pipeline.datasets.places import Places, find_places
from avpipe.pipeline.datasets.registry import manifest_of, register
from avpipe.pipeline.errors import UnusableAnnotations, UsageError, unknown_name
from avpipe.pipeline.findings import FAULT, NOTE, Finding
from avpipe.pipeline.manifest import SPLITS, Clip, Dataset, Sample
from avpipe.pipeline.media.pictures import one_per_segment
from avpipe.pipeline.timeline import Timeline


@dataclass(frozen=True)
class Release:
    """Where the questions of a release lie: folders below a base, and the name of each file for a split."""

    folders: tuple[str, ...]
    file: str


RELEASES = {
    "update": Release(("json_update",), "avqa-{split}.json"),
    "first": Release(("json",), "avqa-{split}.json"),
    "v2-balance": Release(("balance_full_set", "."), "{split}_balance.json"),
    "v2-bias": Release(("bias_set", "."), "{split}_bias.json"),
}
"""Releases by the name that `release=` gives them; without it, the first of them that is there."""
UNSAID = Release((".",), "avqa-{split}.json")
"""Questions at the root, of which nothing says which release they are; they are taken for the updated one."""
BASES = (".", "data")
SUFFIXES = ("", ".gz")

VIDEOS = ("video", "videos", "MUSIC-AVQA-videos-Real", "MUSIC-AVQA-videos-Synthetic")
FRAMES = ("frames", "frame", "avqa-frames-1fps")
SOUNDS = ("audio",)

_ONE_A_SECOND = (0.5, 1.5)
"""From how many pictures a second, and up to how many, pictures count as taken at one a second."""


def _files(root: Path, release: Release) -> dict[str, Path]:
    """The file of every split that is there, all from one folder: the first that has any."""
    for folder in (Path(root, base, folder) for folder in release.folders for base in BASES):
        names = {split: release.file.format(split=split) for split in SPLITS}
        there = {
            split: path
            for split, name in names.items()
            if (path := next((folder / f"{name}{s}" for s in SUFFIXES if (folder / f"{name}{s}").is_file()), None))
        }
        if there:
            return there
    return {}


MARKERS = tuple(
    str(Path(base, folder, release.file.format(split=split))) + suffix
    for release in (*RELEASES.values(), UNSAID)
    for folder in release.folders
    for base in BASES
    for split in SPLITS
    for suffix in SUFFIXES
)


@register("music-avqa", markers=MARKERS, options=("release",))
def read_music_avqa(name: str, root: Path, release: str | None = None) -> Dataset:
    """Reads MUSIC-AVQA.

    Args:
        name: `music-avqa`.
        root: the folder that holds the questions and the videos, or has them in its folder `data`.
        release: a key of `RELEASES`; without it the updated release, else the first one that is there.

    Returns:
        One sample per question, in the order of the files; its id is its split and its place in the file, from 0, such
        as `test:17`, because ids of questions are not unique. A video that is asked about is one clip, of 60 segments.
        `options` names the release. Rows that cannot be used and splits that are not there are in the findings.

    Raises:
        UsageError: unknown release, or one that is not there.
        UnusableAnnotations: no file is a list of questions.
    """
    manifest = manifest_of(name)
    release, files = _choose(root, release)
    counts = {**manifest["counts"], **manifest["releases"].get(release, {})}
    findings = _missing(files, RELEASES[release], counts["splits"])
    classes, types = tuple(manifest["classes"]), tuple(manifest["question_types"])
    asked, left_out = _asked(files, classes, types, findings)
    bases = tuple(root / base for base in BASES)
    places = find_places(bases, VIDEOS, FRAMES, SOUNDS)
    segments = int(manifest["timeline"]["segments"])
    every = [row for rows in asked.values() for row in rows]
    clips = {row.clip: row for row in every}
    return Dataset(
        name=name,
        root=root,
        task=str(manifest["task"]),
        classes=classes,
        timeline=Timeline(manifest["timeline"]["segment_seconds"], manifest["timeline"]["frame_position"]),
        clips=tuple(_clip(places, row, segments) for row in clips.values()),
        samples=tuple(Sample(row.id, row.clip, row.split, question=row.question) for row in every),
        findings=tuple(findings),
        options={"release": release},
        left_out=left_out,
    )


def _asked(
    files: Mapping[str, Path], classes: tuple[str, ...], types: tuple[str, ...], findings: list[Finding]
) -> tuple[dict[str, tuple[Asked, ...]], dict[str, int]]:
    """The questions of every split, and how many were left out; a file that is no list of them costs its split alone.

    Raises:
        UnusableAnnotations: none is a list of questions.
    """
    asked, left_out, unusable = {}, {}, []
    for split, path in files.items():
        try:
            asked[split], left_out[f"samples of {split}"] = read_questions(path, split, classes, types, findings)
        except UnusableAnnotations as error:
            findings.append(Finding("unusable", str(path), error.what, f"there is no {split} split"))
            unusable.append(error)
    if unusable and not asked:
        raise unusable[0]
    return asked, left_out


def _missing(files: Mapping[str, Path], release: Release, published: Collection[str]) -> list[Finding]:
    """Splits without a file: a fault where the release has one."""
    folder = next(iter(files.values())).parent
    return [
        Finding(
            "missing-table",
            str(folder / release.file.format(split=split)),
            f"no such file, so there is no {split} split",
            level=FAULT if split in published else NOTE,
        )
        for split in SPLITS
        if split not in files
    ]


def _choose(root: Path, wanted: str | None) -> tuple[str, dict[str, Path]]:
    """The release, and the file of each of its splits that is there."""
    if wanted is not None and wanted not in RELEASES:
        raise unknown_name("release", wanted, RELEASES, listing=f"releases: {', '.join(RELEASES)}")
    unsaid = _files(root, UNSAID)
    for release in (wanted,) if wanted else ("update", "first"):
        if files := _files(root, RELEASES[release]):
            return release, files
    if unsaid and wanted in (None, "update", "first"):
        return wanted or "update", unsaid
    if wanted is None:
        for release in ("v2-balance", "v2-bias"):
            if files := _files(root, RELEASES[release]):
                return release, files
    sought = RELEASES[wanted or "update"]
    looked = " and ".join(str(Path(folder, sought.file.format(split="test"))) for folder in sought.folders)
    raise UsageError(
        f"{root} does not hold release {wanted} of MUSIC-AVQA: looked for files such as {looked}, there and in data"
    )


def _clip(places: Places, row: Asked, segments: int) -> Clip:
    def pick(files: Sequence[Path]) -> tuple[Path, ...] | None:
        return _per_second(files, segments)

    source = row.video.removesuffix("_flip")
    clip = places.clip(row.clip, row.video, segments, pick, source=source)
    if row.other_sound is None:
        return clip
    sound = places.clip(row.clip, row.other_sound, segments, pick)
    return Clip(row.clip, segments, clip.video, clip.frames, sound.audio or sound.video, source)


def _per_second(files: Sequence[Path], segments: int) -> tuple[Path, ...] | None:
    """The picture of every second; pictures at one a second that end early repeat the last, as the authors do."""
    low, high = (share * segments for share in _ONE_A_SECOND)
    if not low <= len(files) <= high:
        return one_per_segment(files, segments, position=0.5)
    return tuple(files[min(second, len(files) - 1)] for second in range(segments))
