"""Small labelled datasets whose features are made up, in real caches: stage two without media or backbones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from avpipe.pipeline.cache import ArraySpec, CacheWriter

CHANNELS, PREFIX, GRID, AUDIO_TOKENS = 16, 1, (4, 4), 9
CLASSES = ("Church bell", "Bark", "Helicopter")
PARSED = ("Dog", "Violin_fiddle", "Helicopter")
SPLITS = {"train": 24, "val": 8, "test": 8}
LOOKS = np.random.default_rng(1).normal(size=(3, CHANNELS)) * 2
SOUNDS = np.random.default_rng(2).normal(size=(3, CHANNELS)) * 2


class Toy:
    """A dataset's folder and its cache."""

    def __init__(self, name: str, root: Path, cache: Path) -> None:
        self.name, self.root, self.cache = name, root, cache


def fill_cache(path: Path, about: dict, tokens: dict[str, dict[str, np.ndarray]], weights: str = "one") -> None:
    """A cache from `tokens[clip][modality]` `[T, N, C]`: two taps a modality, the first is the second, doubled."""
    first = next(iter(tokens.values()))
    arrays = [
        ArraySpec(f"{m}/{tap}", first[m].shape[1:], "float16") for m in first for tap in ("blocks.9", "blocks.10")
    ]
    with CacheWriter.create(path, dataset=about, unit_rows=60) as writer:
        for modality in first:
            grid = GRID if modality == "visual" else (3, 3)
            prefix = PREFIX if modality == "visual" else 0
            stage = {"blocks": 11, "width": CHANNELS, "grid": list(grid)}
            backbone = {"model": "toy", "family": "toy", "modality": modality, "input_size": [32, 32]}
            backbone |= {"prefix_tokens": prefix, "stages": [stage]}
            writer.declare(modality, {"backbone": backbone, "weights": weights}, {})
        plan = writer.plan([(clip, len(next(iter(x.values()))), "") for clip, x in tokens.items()], arrays)
        for work in plan.pending:
            with writer.unit(work) as unit:
                for clip in work.clips:
                    for array in work.arrays:
                        values = tokens[clip.id][array.modality]
                        scale = 2 if array.tap == "blocks.9" else 1
                        for segment in range(clip.segments):
                            unit.write(array.name, clip.start + segment, (scale * values[segment]).astype(np.float16))
                    unit.clip_done(clip, {m: np.ones(clip.segments, dtype=bool) for m in first}, {})
                unit.commit()


def make_events(base: Path, *, lacking: tuple[int, ...] = (), modalities=("visual", "audio")) -> Toy:
    """AVE's layout without media: a class shows in some seconds and sounds in others, an event where it does both.

    Args:
        base: an empty folder.
        lacking: numbers of clips that are not put into the cache.
        modalities: what the cache holds.
    """
    rng = np.random.default_rng(5)
    folder, cache = base / "data" / "ave" / "AVE_Dataset", base / "cache" / "ave"
    folder.mkdir(parents=True)
    rows, tokens = {split: [] for split in SPLITS}, {}
    numbers = [split for split, count in SPLITS.items() for _ in range(count)]
    for number, split in enumerate(numbers):
        clip, kind = f"{'-' if number % 2 else 'a'}clip{number:06d}", number % 3
        seen, heard = np.zeros((2, 10), dtype=bool)
        start, end = int(rng.integers(1, 4)), int(rng.integers(6, 9))
        seen[start:], heard[:end] = True, True
        rows[split].append(f"{CLASSES[kind]}&{clip}&good&{start}&{end}")
        made = {"visual": rng.normal(size=(10, 17, CHANNELS)), "audio": rng.normal(size=(10, AUDIO_TOKENS, CHANNELS))}
        made["visual"][seen, 3:6] += LOOKS[kind]
        made["audio"][heard, 2:5] += SOUNDS[kind]
        if number not in lacking:
            tokens[clip] = {m: made[m] for m in modalities}
    for split, lines in rows.items():
        (folder / f"{split}Set.txt").write_text("\n".join(lines) + "\n")
    (folder / "Annotations.txt").write_text("\n".join(line for lines in rows.values() for line in lines) + "\n")
    fill_cache(cache, {"name": "ave", "root": str(folder.parent)}, tokens)
    return Toy("ave", folder.parent, cache)


def make_masks(base: Path, *, lacking: tuple[int, ...] = ()) -> Toy:
    """MS3's layout without media: two things on a 4 x 4 grid of 8-pixel patches, the mask is where the heard one is."""
    rng = np.random.default_rng(6)
    folder, cache = base / "data" / "avsbench" / "Multi-sources", base / "cache" / "avsbench"
    folder.mkdir(parents=True)
    table, tokens, number = ["video_id,split"], {}, 0
    for split, count in SPLITS.items():
        for _ in range(count):
            name = f"{'-' if number % 2 else 'a'}clip{number:06d}"
            table.append(f"{name},{split}")
            visual, audio = rng.normal(size=(5, 17, CHANNELS)), rng.normal(size=(5, AUDIO_TOKENS, CHANNELS))
            masks = folder / "ms3_data" / "gt_masks" / split / name
            masks.mkdir(parents=True)
            for segment in range(5):
                kinds, places = rng.permutation(3)[:2], rng.permutation(16)[:2]
                for kind, place in zip(kinds, places, strict=True):
                    visual[segment, PREFIX + place] += LOOKS[kind]
                mask = np.zeros((32, 32), dtype=np.uint8)
                if rng.random() > 0.2:
                    audio[segment, 2:6] += SOUNDS[kinds[0]]
                    row, column = divmod(int(places[0]), 4)
                    mask[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 255
                Image.fromarray(mask).save(masks / f"{name}_{segment + 1}.png")
            if number not in lacking:
                tokens[f"ms3/{name}"] = {"visual": visual, "audio": audio}
            number += 1
    (folder / "ms3_meta_data.csv").write_text("\n".join(table) + "\n")
    fill_cache(cache, {"name": "avsbench", "root": str(folder.parent)}, tokens)
    return Toy("avsbench", folder.parent, cache)


CLASS_IDS = (6, 17, 34)
"""Of the toy's three kinds, in AVSS: bell, dog, helicopter."""


def make_class_maps(base: Path, *, lacking: tuple[int, ...] = ()) -> Toy:
    """AVSS's layout without media: as `make_masks`, with the class of what is heard; clips of v1s and of v2 in turn."""
    rng = np.random.default_rng(8)
    folder, cache = base / "data" / "avsbench", base / "cache" / "avsbench-avss"
    table, tokens, number = ["vid,uid,s_min,s_sec,a_obj,split,label"], {}, 0
    for split, count in SPLITS.items():
        for _ in range(count):
            part, segments = (("v1s", 5), ("v2", 10))[number % 2]
            name = f"{'-' if number % 3 else 'a'}clip{number:06d}_0_{1000 * segments}"
            table.append(f"{name[:11]},{name},0,0,dog,{split},{part}")
            visual = rng.normal(size=(segments, 17, CHANNELS))
            audio = rng.normal(size=(segments, AUDIO_TOKENS, CHANNELS))
            masks = folder / part / name / "labels_semantic"
            masks.mkdir(parents=True)
            for segment in range(segments):
                kinds, places = rng.permutation(3)[:2], rng.permutation(16)[:2]
                for kind, place in zip(kinds, places, strict=True):
                    visual[segment, PREFIX + place] += LOOKS[kind]
                ids = np.zeros((32, 48), dtype=np.uint8)
                if rng.random() > 0.2:
                    audio[segment, 2:6] += SOUNDS[kinds[0]]
                    row, column = divmod(int(places[0]), 4)
                    ids[row * 8 : row * 8 + 8, column * 12 : column * 12 + 12] = CLASS_IDS[kinds[0]]
                if segment == 0 or (part, split) != ("v1s", "train"):
                    Image.fromarray(ids).save(masks / f"{segment}.png")
            if number not in lacking:
                tokens[f"avss/{name}"] = {"visual": visual, "audio": audio}
            number += 1
    (folder / "metadata.csv").write_text("\n".join(table) + "\n")
    fill_cache(cache, {"name": "avsbench-avss", "root": str(folder)}, tokens)
    return Toy("avsbench-avss", folder, cache)


def make_parsing(base: Path, *, lacking: tuple[int, ...] = (), modalities=("visual", "audio")) -> Toy:
    """LLP's layout without media: one or two classes a clip, each heard, seen or both, in stretches of its own.

    Args:
        base: an empty folder.
        lacking: numbers of clips that are not put into the cache.
        modalities: what the cache holds.
    """
    rng = np.random.default_rng(7)
    folder, cache = base / "data" / "llp" / "data", base / "cache" / "llp"
    folder.mkdir(parents=True)
    header = "filename\tonset\toffset\tevent_labels"
    dense, tokens = {"audio": [header], "visual": [header]}, {}
    numbers = iter(range(sum(SPLITS.values())))
    for split, count in SPLITS.items():
        rows = ["filename\tevent_labels"]
        for number in [next(numbers) for _ in range(count)]:
            name = f"{'-' if number % 2 else 'a'}cl_p{number:06d}_30_40"
            kinds = rng.permutation(3)[: 1 + number % 2]
            rows.append(f"{name}\t{','.join(PARSED[kind] for kind in kinds)}")
            made = {
                "visual": rng.normal(size=(10, PREFIX + 16, CHANNELS)),
                "audio": rng.normal(size=(10, AUDIO_TOKENS, CHANNELS)),
            }
            for kind in kinds:
                mode = rng.choice(["both", "both", "audio", "visual"])
                for modality, kinds_of, places in (("audio", SOUNDS, slice(2, 5)), ("visual", LOOKS, slice(3, 6))):
                    if mode not in ("both", modality):
                        continue
                    start, end = int(rng.integers(0, 4)), int(rng.integers(6, 11))
                    made[modality][start:end, places] += 3 * kinds_of[kind]
                    if split != "train":
                        dense[modality].append(f"{name}\t{start}\t{end}\t{PARSED[kind]}")
            if number not in lacking:
                tokens[name] = {m: made[m] for m in modalities}
        (folder / f"AVVP_{split}{'' if split == 'train' else '_pd'}.csv").write_text("\n".join(rows) + "\n")
    for modality, rows in dense.items():
        (folder / f"AVVP_eval_{modality}.csv").write_text("\n".join(rows) + "\n")
    fill_cache(cache, {"name": "llp", "root": str(folder.parent)}, tokens)
    return Toy("llp", folder.parent, cache)
