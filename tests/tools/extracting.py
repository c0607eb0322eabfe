"""Extractions as processes that tests stop, kill and compare: `extract_logged.py` and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.ledger import Ledger
from avpipe.pipeline.manifest import Dataset
from avpipe.stages.backbones import BackboneChoice
from avpipe.stages.job import ExtractJob, resolve

PROGRAM = Path(__file__).with_name("extract_logged.py")
STUB = ("--visual", "stub", "--audio", "stub", "--weights", "random:0")


def start(root: Path, cache: Path, log: Path, *more: object, **environment: object) -> subprocess.Popen:
    """An extraction of a dataset in AVE's layout, with the stub unless `more` names backbones, 20 segments a unit."""
    backbones = () if {"--visual", "--audio"} & set(more) else STUB
    options = ["--dataset", "ave", "--root", root, "--cache", cache, "--unit-segments", 20, *backbones, *more]
    return subprocess.Popen(
        [sys.executable, PROGRAM, "extract", *map(str, options)],
        env={**os.environ, "EXTRACT_LOG": str(log), **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stub_job(
    dataset: Dataset, cache: Path, *modalities: str, layers: str = "blocks.1", dtype: str = "float16"
) -> ExtractJob:
    """The same extraction for this process: give it to `avpipe.stages.extract.extract`."""
    return resolve(
        dataset,
        {modality: BackboneChoice(modality, "stub", "random:0") for modality in modalities},
        cache=cache,
        layers=layers,
        dtype=dtype,
        decoder="decord",
        device="cpu",
        batch=None,
        deadline_seconds=60.0,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Waits for the end and returns what it printed."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == code, f"exit {process.returncode}, not {code}\n{out}\n{errors}"
    assert "Traceback" not in errors, errors
    return out


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.002)


def records(cache: Path) -> int:
    """Number of commit records."""
    return len(list((cache / "ledger" / "records").glob("*.json")))


def computed(log: Path) -> dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]]:
    """What the log says: process -> unit -> clips that it computed there, each with the arrays."""
    found: dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]] = defaultdict(lambda: defaultdict(list))
    for line in log.read_text().splitlines():
        process, unit, clip, arrays = json.loads(line)
        found[process][unit].append((clip, tuple(sorted(arrays))))
    return found


def committed(cache: Path) -> dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]]:
    """What the records say, in the same form."""
    found: dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]] = defaultdict(lambda: defaultdict(list))
    for unit, there in Ledger(Layout(cache)).records.items():
        for record in there:
            process, arrays = int(record.writer.split("-")[-2]), tuple(sorted(file.array for file in record.files))
            found[process][unit] += [(clip.id, arrays) for clip in record.clips]
    return found


def pairs(done: dict[int, dict[int, list[tuple[str, tuple[str, ...]]]]]) -> list[tuple[str, str]]:
    """Every (clip, array), as often as it was done."""
    return sorted(
        (clip, array)
        for units in done.values()
        for clips in units.values()
        for clip, arrays in clips
        for array in arrays
    )


def array_files(cache: Path) -> dict[str, str]:
    """Hash of every shard file, and of every commit record."""
    files = [*cache.glob("*/*/c.*"), *(cache / "ledger" / "records").iterdir()]
    return {str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
