"""Wall time and memory of `avpipe score` on predictions of the size of the real test sets.

    python benchmarks/score_files.py [--s4 740] [--avss 1554] [--folder DIR]

Makes annotations with masks (224 x 224 for S4, 1280 x 720 for AVSS, most of them links to the first few) and random
predictions, scores them through the command, and prints a JSON object: for each file wall time, processor time of
all threads, the largest anonymous memory (`RssAnon`) and the scores. Needs 2 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

AVPIPE = Path(sys.executable).with_name("avpipe")
DISTINCT, SIDE = 20, 224
"""Clips that are made; the others are the same again."""


def blobs(rng: np.random.Generator, frames: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Smooth pictures with values around 0, `[frames, height, width]`."""
    coarse = rng.normal(size=(frames, height // 32 + 2, width // 32 + 2)).astype(np.float32)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in coarse]
    )


def save(path: Path, values: npt.NDArray[np.uint8], made: dict[object, Path], key: object) -> None:
    """A picture, or a link to an equal one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if key in made:
        os.link(made[key], path)
    else:
        Image.fromarray(values).save(path)
        made[key] = path


def write_npz(path: Path, name: str, shape: tuple[int, ...], parts: Iterator[npt.NDArray[Any]], dtype: str) -> None:
    """An array, part by part, uncompressed as `numpy.savez` has it."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w") as archive, archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).tobytes())


def make_s4(base: Path, clips: int) -> dict[str, Path]:
    """S4's test set with logits in an npz file, and the same as pictures."""
    names = [f"clip{number:07d}" for number in range(clips)]
    rows = [f"{name},0,helicopter,test" for name in names]
    source, made = base / "Single-source", dict[object, Path]()
    (source / "s4_data").mkdir(parents=True)
    (source / "s4_meta_data.csv").write_text("\n".join(["name,start,category,split", *rows]) + "\n")
    drawn = []
    for number in range(min(clips, DISTINCT)):
        rng = np.random.default_rng(number)
        scene = blobs(rng, 5, SIDE, SIDE)
        drawn.append((scene > 0.5, (4 * scene - 2 + rng.normal(size=scene.shape)).astype(np.float16)))
    for number, name in enumerate(names):
        mask, logits = drawn[number % DISTINCT]
        grey = (255 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.uint8)
        for frame in range(5):
            key = (number % DISTINCT, frame)
            truth = source / "s4_data" / "gt_masks" / "test" / "helicopter" / name / f"{name}_{frame + 1}.png"
            save(truth, mask[frame] * np.uint8(255), made, ("mask", *key))
            save(base / "pictures" / name / f"{frame + 1}.png", grey[frame], made, ("grey", *key))
    parts = (drawn[number % DISTINCT][1] for number in range(clips))
    write_npz(base / "logits.npz", "logits", (clips, 5, SIDE, SIDE), parts, "float16")
    return {"npz": base / "logits.npz", "pictures": base / "pictures"}


def make_avss(base: Path, clips: int) -> dict[str, Path]:
    """A test set of AVSS with ten frames a clip, and class ids in an npz file."""
    names = [f"clip{number:07d}_0_10000" for number in range(clips)]
    rows = [f"{name[:11]},{name},0,0,dog,test,v2" for name in names]
    base.mkdir(parents=True)
    (base / "metadata.csv").write_text("\n".join(["vid,uid,s_min,s_sec,a_obj,split,label", *rows]) + "\n")
    made, drawn = dict[object, Path](), []
    for number in range(min(clips, DISTINCT)):
        rng = np.random.default_rng(number)
        scene = blobs(rng, 10, 720, 1280)
        ids = np.where(scene > 1, rng.integers(1, 71), np.where(scene < -1, rng.integers(1, 71), 0)).astype(np.uint8)
        guess = ids[:, :: 720 // SIDE, :: 1280 // SIDE][:, :SIDE, :SIDE]
        drawn.append((ids, np.where(rng.random(guess.shape) < 0.1, rng.integers(0, 71, guess.shape), guess)))
    for number, name in enumerate(names):
        for frame in range(10):
            truth = base / "v2" / name / "labels_semantic" / f"{frame}.png"
            save(truth, drawn[number % DISTINCT][0][frame], made, (number % DISTINCT, frame))
    parts = (drawn[number % DISTINCT][1] for number in range(clips))
    write_npz(base / "classes.npz", "predicted", (clips, 10, SIDE, SIDE), parts, "uint8")
    return {"npz": base / "classes.npz"}


def measure(dataset: str, root: Path, predictions: Path) -> dict[str, Any]:
    """Scores through the command, watching its memory."""
    command = [AVPIPE, "score", "--dataset", dataset, "--root", root, "--predictions", predictions, "--json"]
    begun, before, peak = time.perf_counter(), _processor_seconds(), 0
    with tempfile.TemporaryFile() as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"avpipe score ended with {process.returncode}")
        seconds, busy = time.perf_counter() - begun, _processor_seconds() - before
        output.seek(0)
        found = json.load(output)
    scores = {key: found["metrics"][key] for key in ("miou", "fscore")}
    spent = {"seconds": round(seconds, 2), "cpu_seconds": round(busy, 2), "peak_rss_anon_mib": peak // 1024}
    return {**spent, "samples": found["samples"], **scores}


def _processor_seconds() -> float:
    """Seconds that all cores together have worked for children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _anonymous(process: int) -> int:
    """Anonymous memory of a process, KiB; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def main() -> None:
    """Makes the material, scores it, prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--s4", type=int, default=740, help="videos of S4, 5 frames each")
    parser.add_argument("--avss", type=int, default=1554, help="videos of AVSS, 10 frames each")
    parser.add_argument("--folder", type=Path, help="where the material goes; default: the folder of temporaries")
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for dataset, count, make in (("s4", given.s4, make_s4), ("avss", given.avss, make_avss)):
            root = Path(folder, dataset)
            files = make(root, count) if count else {}
            for kind, path in files.items():
                found[f"{dataset}_{kind}"] = measure(f"avsbench-{dataset}", root, path)
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), **found}, indent=2))


if __name__ == "__main__":
    main()
