"""Memory of training from disk: ten times the data, the same anonymous memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CLIPS, TIMES = 30, 10
SHAPE = (10, 64, 128)
CLIP_MIB = 4 * np.prod(SHAPE) * 2 / 2**20  # two taps of two modalities, float16
PROGRAM = """
import sys
from pathlib import Path

import psutil
import torch

from avpipe.pipeline import open_cache
from avpipe.stages.feature_store import FeatureStore
from avpipe.stages.train import TrainOptions, train
from avpipe.stages.train_loop import Trainer

torch.set_num_threads(1)
caches = [Path(text) for text in sys.argv[1:]]
step, seen = Trainer._step, []


def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def watch(trainer, batch, rate):
    value = step(trainer, batch, rate)
    seen.append(anonymous())
    return value


Trainer._step = watch
settings = ("epochs=2", "width=16", "heads=4", "rank=16", "batch=4", "method=linear")
for cache in caches:  # the smaller one first: its memory is still counted with the larger one
    seen.clear()
    train(TrainOptions(cache=cache, run=cache.parent / "run", overrides=settings, residency="disk"))
    print(max(seen))
opened, before = open_cache(caches[-1]), anonymous()
kept = FeatureStore(opened, {"audio": ("blocks.9",)}, list(opened.clips()), residency="ram")
print(anonymous() - before)
"""


def make(base: Path, clips: int, fill_cache) -> Path:
    """AVE's layout without media, with larger tokens than the toys have."""
    folder = base / "data" / "ave" / "AVE_Dataset"
    folder.mkdir(parents=True)
    rows = [f"{('Bark', 'Church bell')[i % 2]}&clip{i:06d}&good&2&{5 + i % 4}" for i in range(clips)]
    (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + "\n".join(rows) + "\n")
    for split, part in (("train", rows[4:]), ("val", rows[:2]), ("test", rows[2:4])):
        (folder / f"{split}Set.txt").write_text("\n".join(part) + "\n")
    made = {m: np.random.default_rng(0).normal(size=SHAPE).astype(np.float16) for m in ("visual", "audio")}
    about = {"name": "ave", "root": str(folder.parent)}
    fill_cache(base / "cache", about, {f"clip{i:06d}": made for i in range(clips)})
    return base / "cache"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_anonymous_memory_stays_flat_as_the_data_grow_tenfold(tmp_path, fill_cache):
    caches = [str(make(tmp_path / str(clips), clips, fill_cache)) for clips in (CLIPS, CLIPS * TIMES)]
    program, environment = [sys.executable, "-c", PROGRAM, *caches], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, env=environment, timeout=120, check=True)
    small, large, loaded = map(float, done.stdout.split())
    print(
        f"RssAnon at most {small:.1f} MiB with {CLIPS * CLIP_MIB:.1f} MiB of features, {large:.1f} MiB with ten times"
    )
    grown = CLIPS * (TIMES - 1) * CLIP_MIB
    assert large - small < 0.1 * grown
    assert loaded > 0.2 * TIMES * CLIPS * CLIP_MIB  # and this is how it would look if a quarter were kept in memory
