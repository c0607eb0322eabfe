"""Rows that `bench extract` knows, and their clips. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.pipeline.errors import UsageError, unknown_name
from avpipe.pipeline.manifest import Clip, Dataset
from avpipe.pipeline.timeline import Timeline
from avpipe.stages.bench.films import Film, write_film

FILMS = 2
"""Different films of one kind; clips take turns with them."""
DECODE_BOUND, BACKBONE_BOUND, PREDECODED, OWN = "decode_bound", "backbone_bound", "predecoded", "own"


@dataclass(frozen=True, slots=True)
class ExtractRow:
    """One extraction to measure.

    Attributes:
        film: what the bench makes its clips of; None: clips of the user's dataset.
        model: backbone of both modalities where the user names none.
        clips: how many for each core, where the user does not say.
        stored: frames and samples are in the cache before the measurement.
        about: one line for people.
    """

    film: Film | None
    model: str
    clips: int
    stored: bool
    about: str


SMALL, LARGE = Film(320, 240), Film(1280, 720)
ROWS = {
    DECODE_BOUND: ExtractRow(LARGE, "test_vit", 16, False, "1280 x 720, a tiny backbone"),
    BACKBONE_BOUND: ExtractRow(SMALL, "vit_small_patch16_224", 6, False, "320 x 240, ViT-S twice"),
    PREDECODED: ExtractRow(SMALL, "vit_small_patch16_224", 6, True, "the same from stored frames and samples"),
}
"""Rows on clips that the bench makes, by name."""
OWN_ROWS = {
    OWN: ExtractRow(None, "", 8, False, "the dataset's clips"),
    PREDECODED: ExtractRow(None, "", 8, True, "the same from stored frames and samples"),
}
"""Rows on clips of the user's dataset."""


def rows_of(names: tuple[str, ...], own: bool) -> Mapping[str, ExtractRow]:
    """Rows by name, all where none is named.

    Args:
        names: as the user gave them.
        own: whether the user named a dataset.

    Raises:
        UsageError: an unknown name.
    """
    known = OWN_ROWS if own else ROWS
    for name in names:
        if name not in known:
            raise unknown_name("row", name, known)
    return {name: row for name, row in known.items() if not names or name in names}


def made_dataset(name: str, row: ExtractRow, clips: int, folder: Path) -> Dataset:
    """The dataset of a row with clips that the bench makes; `write_films` makes their files."""
    film = row.film
    assert film is not None
    found = tuple(
        Clip(f"clip{each}", film.seconds, video=_film_path(folder, film, each % FILMS)) for each in range(clips)
    )
    backbones = dict.fromkeys(("visual", "audio"), row.model)
    return Dataset(name, folder, "events", (), Timeline(), found, (), backbones=backbones)


def write_films(row: ExtractRow, folder: Path) -> None:
    """Writes the films of a row, unless another row has them already."""
    assert row.film is not None
    for seed in range(FILMS):
        path = _film_path(folder, row.film, seed)
        if not path.exists():
            write_film(path, row.film, seed)


def sampled(dataset: Dataset, clips: int) -> tuple[Clip, ...]:
    """So many clips of a dataset, evenly spread over it.

    Raises:
        UsageError: it has no clips.
    """
    have = dataset.clips
    if not have:
        raise UsageError(f"{dataset.name} at {dataset.root} has no clips: are its annotation files empty?")
    wanted = min(clips, len(have))
    return tuple(have[each * len(have) // wanted] for each in range(wanted))


def _film_path(folder: Path, film: Film, seed: int) -> Path:
    return folder / f"film-{film.width}x{film.height}-{seed}.mp4"
