"""A user's own data: clips of 2 to 8 s with real media, or with made-up features alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from features_toy import AUDIO_TOKENS, CHANNELS, LOOKS, PREFIX, SOUNDS, fill_cache

from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.datasets.origin import origin_of
from avpipe.stages.demo.encode import write_mp4, write_png

COLOURS, TONES = ((220, 30, 30), (30, 30, 220)), (0.05, 0.15)
CLASSES = ("red thing", "blue@thing")


class OwnClip:
    """One clip: what happens in it, and what its rows say.

    Args:
        number: its place in the set; decides all else.
    """

    def __init__(self, number: int) -> None:
        self.rng = np.random.default_rng(number)
        self.name = f"{'-' if number % 3 == 0 else 'a'}clip.{number}"
        self.segments = 2 + number % 7
        self.kind = number % 2
        self.start = int(self.rng.integers(0, self.segments - 1))
        self.end = self.start + 1 + int(self.rng.integers(0, self.segments - self.start))
        self.split = ("train", "train", "train", "val", "test")[number % 5]
        self.places = self.rng.integers(0, 3, (self.segments, 2)) * 8

    def mask(self, segment: int) -> np.ndarray:
        """Truth of a segment, uint8 [32, 32]."""
        mask = np.zeros((32, 32), np.uint8)
        if self.start <= segment < self.end:
            row, column = self.places[segment]
            mask[row : row + 16, column : column + 16] = 255
        return mask

    def rows(self) -> tuple[str, str]:
        """Its row in `events.csv` and in `masks.csv`."""
        common = f"{self.name},v/{self.name}.mp4,{self.split}"
        return f"{common},{CLASSES[self.kind]}@{self.start}-{self.end}", f"{common},m/{self.name}"

    def write_masks(self, folder: Path) -> None:
        """`m/<name>/1.png` and so on."""
        place = folder / "m" / self.name
        place.mkdir(parents=True)
        for segment in range(self.segments):
            write_png(place / f"{segment + 1}.png", self.mask(segment))

    def write_video(self, folder: Path) -> None:
        """`v/<name>.mp4`: a coloured square and a tone where something happens."""
        (folder / "v").mkdir(exist_ok=True)
        pictures = np.full((self.segments * 4, 32, 32, 3), 120, np.uint8)
        sound = np.zeros((self.segments, 16_000), np.float32)
        for segment in range(self.segments):
            pictures[segment * 4 : segment * 4 + 4][:, self.mask(segment) > 0] = COLOURS[self.kind]
            if self.start <= segment < self.end:
                sound[segment] = np.sin(np.arange(16_000) * TONES[self.kind]) * 0.4
        write_mp4(folder / "v" / f"{self.name}.mp4", pictures, 4, sound.reshape(1, -1), 16_000)

    def tokens(self) -> dict[str, np.ndarray]:
        """Made-up features `[T, N, C]` by modality, in which classes and masks can be found."""
        rng = self.rng
        visual = rng.normal(size=(self.segments, PREFIX + 16, CHANNELS))
        audio = rng.normal(size=(self.segments, AUDIO_TOKENS, CHANNELS))
        for segment in range(self.start, self.end):
            covered = np.flatnonzero(self.mask(segment)[::8, ::8])  # patches of 8 pixels
            visual[segment, PREFIX + covered] += LOOKS[self.kind]
            audio[segment, 2:6] += SOUNDS[self.kind]
        return {"visual": visual, "audio": audio}


def write_tables(folder: Path, clips: list[OwnClip], *, videos: bool) -> None:
    """`events.csv` and `masks.csv` with their masks, and the videos where they are wanted."""
    tables = {"events": ["clip,media,split,events"], "masks": ["clip,media,split,masks"]}
    for clip in clips:
        for lines, row in zip(tables.values(), clip.rows(), strict=True):
            lines.append(row)
        clip.write_masks(folder)
        if videos:
            clip.write_video(folder)
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def make_own(base: Path, table: str, count: int = 30) -> tuple[Path, Path]:
    """Tables without videos, and a cache of made-up features: the table's file and the cache's folder."""
    data, cache = base / "data", base / "cache" / Path(table).stem
    data.mkdir(parents=True)
    clips = [OwnClip(number) for number in range(count)]
    write_tables(data, clips, videos=False)
    fill_cache(cache, origin_of(load_dataset(str(data / table))), {clip.name: clip.tokens() for clip in clips})
    return data / table, cache
