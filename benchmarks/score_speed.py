"""How long scoring takes at the size of the official test sets, and how much memory.

    python benchmarks/score_speed.py                      # S4: 740 videos; AVSS: 1,554 videos
    python benchmarks/score_speed.py --videos 50

Prints JSON. The material is random, made by a seeded generator while it is scored, so that neither the seconds of
making it (`material_seconds`) nor its bytes count. Seconds are those of one thread; `cpu` has the same without waiting
for other users of the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.stages.metrics.avs import AvsScorer
from avpipe.stages.metrics.avss import AvssScorer

SIZE, S4_VIDEOS, AVSS_VIDEOS, CLASSES = 224, 740, 1554, 71
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def binary_videos(count: int, seed: int = 0) -> Iterator[Pair]:
    """Probabilities float32 `[5, 224, 224]` over all of 0 to 1, and masks: discs that they follow."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        truth = discs(rng, 5) > 0
        noise = rng.random(truth.shape, dtype=np.float32)
        yield np.where(truth, 1 - noise**2, noise**2), truth


def class_videos(count: int, seed: int = 0) -> Iterator[Pair]:
    """Predicted and true class maps uint8 `[10, 224, 224]`: discs of one class each, a tenth of the pixels wrong."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        truth = discs(rng, 10)
        wrong = rng.integers(0, 256, truth.shape, dtype=np.uint8)
        yield np.where(wrong < 26, wrong % CLASSES, truth).astype(np.uint8), truth


def discs(rng: np.random.Generator, frames: int) -> npt.NDArray[np.uint8]:
    """A disc of a random class in each frame, uint8 `[frames, 224, 224]`."""
    y, x = np.ogrid[:SIZE, :SIZE]
    maps = np.zeros((frames, SIZE, SIZE), dtype=np.uint8)
    for frame in maps:
        top, left, radius = rng.integers((0, 0, 10), (SIZE, SIZE, 90)).tolist()
        frame[(y - top) ** 2 + (x - left) ** 2 < radius**2] = rng.integers(1, CLASSES)
    return maps


def measure(scorer: AvsScorer | AvssScorer, videos: Iterator[Pair]) -> dict[str, Any]:
    """Scores them all; seconds of scoring and of making, and how much anonymous memory grew after the first ten."""
    scoring, cpu, made, held = 0.0, 0.0, -time.perf_counter(), 0
    index = -1
    for index, (predicted, truth) in enumerate(videos):
        start, start_cpu = time.perf_counter(), time.thread_time()
        scorer.add(index, predicted, truth)
        scoring, cpu = scoring + time.perf_counter() - start, cpu + time.thread_time() - start_cpu
        held = anonymous_bytes() if index == 9 else held
    made += time.perf_counter() - scoring
    grown = anonymous_bytes() - held if held else 0
    start, start_cpu = time.perf_counter(), time.thread_time()
    scores = scorer.result()
    scoring, cpu = scoring + time.perf_counter() - start, cpu + time.thread_time() - start_cpu
    others = {name: {k: other[k] for k in ("miou", "fscore")} for name, other in scores["other_protocols"].items()}
    return {
        "videos": index + 1,
        "frames": scores["frames"],
        "scoring_seconds": round(scoring, 2),
        "scoring_seconds_cpu": round(cpu, 2),
        "material_seconds": round(made, 2),
        "grown_mb": round(grown / 1e6, 1),
        "scores": {scores["protocol"]: {k: scores[k] for k in ("miou", "fscore")}, **others},
    }


def anonymous_bytes() -> int:
    """RssAnon of this process, 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def main() -> None:
    """Prints both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, help="this many of each set instead of all")
    wanted = parser.parse_args().videos
    s4, semantic = (wanted or S4_VIDEOS), (wanted or AVSS_VIDEOS)
    found = {
        "avsbench-s4": measure(AvsScorer(s4), binary_videos(s4)),
        "avsbench-avss": measure(AvssScorer(semantic), class_videos(semantic)),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
