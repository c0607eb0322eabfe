"""Wall time of one `avpipe extract` and of two at once on one cache, on clips whose decoding takes most of the time.

    python benchmarks/two_writers.py [--clips 48] [--rounds 3] [--folder DIR]

Makes clips of 640 x 480 pixels at 25 frames a second, extracts them with the numpy stand-in for a backbone, one round
after the other, and prints a JSON object: seconds of each round, and the median of two writers over that of one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from avpipe.stages.demo.encode import write_mp4

AVPIPE = Path(sys.executable).with_name("avpipe")
STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")
DISTINCT, SIZE, RATE = 4, (480, 640), 25


def make_clips(root: Path, count: int) -> None:
    """A dataset in AVE's layout; most clips are links to the first few."""
    media = root / "AVE_Dataset" / "AVE"
    media.mkdir(parents=True)
    names = [f"clip{number:06d}" for number in range(count)]
    for number, name in enumerate(names):
        target = media / f"{name}.mp4"
        if number < DISTINCT:
            rng = np.random.default_rng(number)
            scene = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            pictures = np.stack([np.roll(scene, 3 * frame, axis=1) for frame in range(10 * RATE)])
            tone = np.sin(np.arange(160_000) * (0.05 + 0.01 * number), dtype=np.float32)[None] * 0.3
            write_mp4(target, pictures, RATE, tone, 16_000)
        else:
            os.link(media / f"{names[number % DISTINCT]}.mp4", target)
    rows = [f"Church bell&{name}&good&0&9\n" for name in names]
    head = "Category&VideoID&Quality&StartTime&EndTime\n"
    (media.parent / "Annotations.txt").write_text(head + "".join(rows))
    for number, split in enumerate(("train", "val", "test")):
        (media.parent / f"{split}Set.txt").write_text("".join(rows[number::3]))


def seconds_of(writers: int, root: Path, cache: Path) -> float:
    """Wall time until so many extractions, begun at once, have all ended."""
    command = [AVPIPE, "extract", "--dataset", "ave", "--root", root, "--cache", cache, "--unit-segments", "20", *STUB]
    begun = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(writers)]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("an extraction failed")
    taken = time.perf_counter() - begun
    shutil.rmtree(cache)
    return taken


def main() -> None:
    """Runs the rounds and prints what they took."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=48)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where clips and caches go; default: a temporary folder")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        make_clips(Path(folder) / "ave", chosen.clips)
        taken: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(chosen.rounds):
            for writers, found in taken.items():
                found.append(round(seconds_of(writers, Path(folder) / "ave", Path(folder) / "cache"), 2))
    ratio = statistics.median(taken[2]) / statistics.median(taken[1])
    load = round(os.getloadavg()[1], 1)  # of the last five minutes: a busy machine spoils the figures
    print(json.dumps({"one": taken[1], "two": taken[2], "ratio": round(ratio, 3), "load": load}))


if __name__ == "__main__":
    main()
