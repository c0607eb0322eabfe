"""The demo: data, extraction, training with controls, evaluation and reports, on two datasets, in one folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import EnvironmentLacking, UsageError
from avpipe.pipeline.media.limits import DEADLINE_SECONDS
from avpipe.stages.demo.generate import make_demo
from avpipe.stages.extract import ExtractSummary, extract
from avpipe.stages.job import Wish, choose_backbones, resolve

RESULTS = "demo.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One training run of the demo."""

    dataset: str
    method: str
    modality: str = "both"
    stage: str = "distill"

    @property
    def name(self) -> str:
        """Name of its run folder."""
        name = f"{self.dataset}-{self.method}-{self.modality}"
        return name if self.stage == "distill" else f"{name}-{self.stage}"

    @property
    def before(self) -> Case | None:
        """The run that it starts from."""
        return None if self.stage == "distill" else replace(self, stage="distill")


CASES = (
    Case("ave", "mettle"),
    Case("ave", "linear"),
    Case("ave", "mettle", "audio"),
    Case("ave", "mettle", "visual"),
    Case("avsbench", "mettle"),
    Case("avsbench", "linear"),
    Case("avsbench", "mettle", "visual"),
    Case("avsbench", "mettle", "both", "segment"),
)
"""Every claim beside its controls: no distiller, and one modality alone; and masks with meta-tokens injected."""
SETTINGS = ("epochs=20",)
"""Of every run: fewer epochs than usual, so that the demo takes minutes."""
REPORTED = (CASES[0], CASES[-1])
"""Runs of which a report is made, each with the others on its dataset beside it."""


MOST_PROCESSES = 4
"""Trainings at a time at most; each has one thread and takes about 1 GB."""


def run_demo(
    out: Path, *, seed: int = 0, workers: int = 1, clips: int | None = None, settings: Sequence[str] = SETTINGS
) -> dict[str, Any]:
    """Makes the demo in `out`; data and caches that are there already are used again, runs are trained anew.

    Args:
        out: folder of the demo; holds `data`, `cache` and `runs` afterwards.
        seed: of data and training.
        workers: processes of the extraction.
        clips: clips of each dataset; default: the demo's.
        settings: `key=value` settings of every run.

    Returns:
        JSON-ready: `extractions` (by dataset), `rows` (one per run: dataset, method, modality, stage, protocol,
        metrics, baselines, seconds), `reports` (paths), `seconds`. Also written to `demo.json`.
    """
    begun = time.monotonic()
    datasets = sorted({case.dataset for case in CASES})
    for name in datasets:
        make_demo(name, out / "data" / name, seed=seed, clips=clips)
    extractions = {
        name: extract_demo(name, out / "data" / name, out / "cache" / name, workers=workers) for name in datasets
    }
    rows = _train_all(out, (f"seed={seed}", *settings))
    reports = [_report(out, case) for case in REPORTED]
    result = {
        "extractions": {name: asdict(summary) for name, summary in extractions.items()},
        "rows": rows,
        "reports": reports,
        "seconds": time.monotonic() - begun,
    }
    (out / RESULTS).write_text(json.dumps(result, indent=2, default=str), encoding="utf-8")
    return result


def extract_demo(name: str, root: Path, cache: Path, weights: str | None = None, workers: int = 1) -> ExtractSummary:
    """Extracts demo data with the backbones that its `avpipe.yaml` names.

    Args:
        name: name of the dataset.
        root: folder of the demo data.
        cache: folder of the cache.
        weights: other weights for both backbones, such as `random:0`.
        workers: processes.

    Raises:
        KeyboardInterrupt: it was interrupted before the last clip.
    """
    dataset = load_dataset(name, root)
    wishes = {"visual": Wish(weights=weights), "audio": Wish(weights=weights)}
    job = resolve(
        dataset,
        choose_backbones(dataset, wishes),
        cache=cache,
        layers=dataset.backbones["layers"],
        dtype="float16",
        decoder="decord",
        device="auto",
        batch=None,
        deadline_seconds=DEADLINE_SECONDS,
    )
    summary = extract(dataset, job, workers=workers)
    if summary.left:
        raise KeyboardInterrupt
    progress.say(f"{name}: {summary.clips} clips cached, {summary.extracted} of them now, {summary.seconds:.1f} s")
    return summary


def _train_all(out: Path, settings: Sequence[str]) -> list[dict[str, Any]]:
    """Trains and scores every case, as many at a time as there are cores, one thread each."""
    last_first = sorted(CASES, key=lambda case: case.dataset, reverse=True)  # masks take longest
    rows: dict[Case, dict[str, Any]] = {}
    with (
        progress.task("train and score", len(CASES), "runs") as bar,
        ProcessPoolExecutor(min(cores(), MOST_PROCESSES), get_context("spawn"), _take_one_core) as pool,
    ):
        futures = {pool.submit(_train, out, case, settings): case for case in last_first if not case.before}
        try:
            while waiting := [future for future, case in futures.items() if case not in rows]:
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    case = futures[done]
                    rows[case] = done.result()
                    bar.advance(note=case.name)
                    after = [each for each in CASES if each.before == case]
                    futures |= {pool.submit(_train, out, each, settings): each for each in after}
        except BrokenProcessPool as error:
            raise EnvironmentLacking("a process that trained died (out of memory?): run the demo again") from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)  # leaving the `with` would take it back otherwise
            raise
    return [rows[case] for case in CASES]


def _take_one_core() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, which comes later


def _train(out: Path, case: Case, settings: Sequence[str]) -> dict[str, Any]:
    from avpipe.stages import runs
    from avpipe.stages.evaluate import evaluate
    from avpipe.stages.train import TrainOptions, train

    folder = out / "runs" / case.name
    if folder.exists():
        if not (folder / runs.CONFIG).exists():
            raise UsageError(f"{folder} is in the way and is no run: move it, or choose another folder with --out")
        shutil.rmtree(folder)
    begun = time.monotonic()
    train(
        TrainOptions(
            dataset=case.dataset,
            root=out / "data" / case.dataset,
            cache=out / "cache" / case.dataset,
            method=case.method,
            modality=case.modality,
            stage=case.stage,
            start=str(out / "runs" / case.before.name) if case.before else None,
            run=folder,
            overrides=tuple(settings),
        )
    )
    seconds = time.monotonic() - begun
    scored = evaluate(folder)
    return {
        **{key: scored[key] for key in ("dataset", "method", "modality", "stage", "protocol", "metrics", "baselines")},
        "run": str(folder),
        "train_seconds": seconds,
    }


def _report(out: Path, case: Case) -> str:
    from avpipe.stages.report import make_report

    return str(make_report(out / "runs" / case.name).path)
