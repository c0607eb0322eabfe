"""The table of `docs/demo.md`: demo data of several seeds, methods and controls trained with several seeds on each.

    python benchmarks/demo_table.py --out /tmp/demo-table
    python benchmarks/demo_table.py --out /tmp/demo-table --dataset avsbench
    python benchmarks/demo_table.py --out /tmp/demo-table --dataset ave --backbones pretrained \
        --cases mettle-both linear-both --heads temporal linear cmbs --supervision full weak
    python benchmarks/demo_table.py --out /tmp/demo-table --dataset avsbench --backbones pretrained \
        --cases mettle-both mettle-visual --inject rerun side none

With `--inject` each case is trained once more from its own distilled run, by `--stage segment`, in each of these ways.
What is done already is used again, so a run that was stopped goes on. Every number is printed from the runs' own
metrics.json; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

METRIC = {
    "ave": "accuracy",
    "avsbench": "miou",
    "avsbench-s4": "miou",
    "avsbench-avss": "miou",
    "llp": "segment_type_av",
}
CASES = {
    "ave": ("mettle-both", "linear-both", "mettle-audio", "mettle-visual", "linear-audio", "linear-visual"),
    "avsbench": ("mettle-both", "linear-both"),
    "avsbench-s4": ("mettle-both", "linear-both"),
    "avsbench-avss": ("mettle-both", "linear-both"),
    "llp": ("mettle-both", "linear-both", "mettle-audio", "mettle-visual"),
}
CASES_ON_RANDOM = {
    "ave": ("mettle-both", "linear-both", "mettle-audio", "mettle-visual"),
    "avsbench": ("mettle-both",),
    "avsbench-s4": ("mettle-both",),
    "avsbench-avss": ("mettle-both",),
    "llp": ("mettle-both",),
}
CONTROLS = ("linear-both", "linear-audio", "linear-visual")
BACKBONES = {"pretrained": "demo", "random": "random:0"}


@dataclass(frozen=True)
class Job:
    """One training run."""

    dataset: str
    data_seed: int
    backbones: str
    case: str
    seed: int
    settings: tuple[str, ...] = ()
    inject: str = ""

    @property
    def distilled(self) -> Job:
        """The run that one with `inject` starts from."""
        return replace(self, inject="")

    @property
    def name(self) -> str:
        """Name of its run folder."""
        special = "".join(f"-{setting.partition('=')[2]}" for setting in self.settings)
        stage = f"-segment-{self.inject}" if self.inject else ""
        return f"{self.dataset}-{self.data_seed}-{self.backbones}-{self.case}{special}{stage}-{self.seed}"

    @property
    def row(self) -> str:
        """What its row is called."""
        return " ".join((self.case, *self.settings, *([f"segment inject={self.inject}"] if self.inject else [])))


def prepare(out: Path, dataset: str, data_seed: int, backbones: str, clips: int | None) -> None:
    """Data and cache."""
    from avpipe.stages.demo.generate import make_demo
    from avpipe.stages.demo.run import extract_demo

    make_demo(dataset, _data(out, dataset, data_seed), seed=data_seed, clips=clips)
    extract_demo(
        dataset,
        _data(out, dataset, data_seed),
        _cache(out, dataset, data_seed, backbones),
        weights=BACKBONES[backbones],
    )


def _data(out: Path, dataset: str, data_seed: int) -> Path:
    return out / "data" / f"{dataset}-{data_seed}"


def _cache(out: Path, dataset: str, data_seed: int, backbones: str) -> Path:
    return out / "cache" / f"{dataset}-{data_seed}-{backbones}"


def run(out: Path, job: Job, shuffles: bool) -> dict[str, Any]:
    """Trains and scores one run, unless that is done; the content of its metrics.json, with the shuffles if wanted."""
    import torch

    torch.set_num_threads(1)
    from avpipe.stages.demo.generate import GENERATOR
    from avpipe.stages.demo.run import SETTINGS
    from avpipe.stages.evaluate import evaluate
    from avpipe.stages.train import TrainOptions, train

    folder = out / "runs" / job.name
    done, made_of = folder / "table.json", {"generator": GENERATOR, "settings": list(SETTINGS)}
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        if found["made_of"] != made_of:
            raise RuntimeError(f"{done} was made of {found['made_of']}, now it would be {made_of}: use another --out")
        return found
    method, modality = job.case.split("-")
    data, cache = _data(out, job.dataset, job.data_seed), _cache(out, job.dataset, job.data_seed, job.backbones)
    given: dict[str, Any] = {"dataset": job.dataset, "root": data, "cache": cache, "run": folder}
    if (folder / "config.yaml").exists():
        train(TrainOptions(**given, resume=True))
    else:
        settings = [f"seed={job.seed}", *SETTINGS, *job.settings]
        if job.inject:
            given |= {"stage": "segment", "start": str(out / "runs" / job.distilled.name)}
            settings.append(f"inject={job.inject}")
        train(TrainOptions(**given, method=method, modality=modality, overrides=tuple(settings)))
    result = evaluate(folder)
    result["shuffles"] = _shuffles(folder, data, cache) if modality == "both" and shuffles else None
    result["made_of"] = made_of
    done.write_text(json.dumps(result, indent=1))
    return result


def _shuffles(folder: Path, data: Path, cache: Path) -> list[dict[str, Any]]:
    """What the score on test is when one modality comes from another clip."""
    import torch

    from avpipe.pipeline import open_cache
    from avpipe.pipeline.datasets import load_dataset
    from avpipe.stages.inference import load_trained
    from avpipe.stages.runs import RunConfig
    from avpipe.stages.shuffle import shuffle_costs
    from avpipe.stages.train_inputs import labelled

    config, device = RunConfig.load(folder), torch.device("cpu")
    samples = labelled(load_dataset(config.dataset, data), "test")
    trained = load_trained(folder, config, open_cache(cache), samples, device)
    task, batch = config.build_task(samples), config.train.batch
    return [
        asdict(row)
        for row in shuffle_costs(trained.model, trained.data, task, batch=batch, device=device, layers=False).rows
    ]


def table(jobs: Iterable[Job], results: Iterable[dict[str, Any]]) -> str:
    """Rows: backbones and case; columns: mean per data seed, then mean and standard deviation over all runs."""
    import numpy as np

    by_row: dict[tuple[str, str], list[tuple[int, float]]] = {}
    shuffled: dict[tuple[str, str], list[tuple[int, float]]] = {}
    constant: dict[str, dict[int, float]] = {}  # the same in every run on the same data
    for job, result in zip(jobs, results, strict=True):
        metric = METRIC[job.dataset]
        by_row.setdefault((job.backbones, job.row), []).append((job.data_seed, result["metrics"][metric]))
        for name, scores in result["baselines"].items():
            constant.setdefault(name.replace("_", " "), {})[job.data_seed] = scores[metric]
        for entry in result.get("shuffles") or ():
            label = (job.backbones, f"{job.row}, {entry['modality']} of another clip")
            shuffled.setdefault(label, []).append((job.data_seed, entry["score"]))
    seeds = sorted({seed for rows in by_row.values() for seed, _ in rows})
    lines = ["| backbones | case | " + " | ".join(f"data {seed}" for seed in seeds) + " | all | runs |"]
    lines.append("|---|---|" + "---:|" * (len(seeds) + 2))
    answers = {("", f"{name}, no input"): list(scores.items()) for name, scores in constant.items()}
    for (backbones, case), rows in {**by_row, **shuffled, **answers}.items():
        means = [np.mean([score for own, score in rows if own == seed]) for seed in seeds]
        scores = [score for _, score in rows]
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        spread = f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""
        lines.append(f"| {backbones} | {case} | {cells} | {np.mean(scores):.3f}{spread} | {len(scores)} |")
    return "\n".join(lines)


def main() -> None:
    """Prepares, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", choices=list(METRIC), default="ave")
    parser.add_argument("--data-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--cases", nargs="+", help="default: all of the dataset")
    parser.add_argument("--controls", action="store_true", help="train linear alone, on both and on each modality")
    parser.add_argument("--heads", nargs="+", default=[""], help="heads to train each case with; default: the usual")
    parser.add_argument("--supervision", nargs="+", choices=("full", "weak"), default=["full"])
    parser.add_argument("--inject", nargs="+", choices=("rerun", "side", "none"), default=[])
    parser.add_argument("--no-shuffles", action="store_true", help="without tokens of another clip")
    parser.add_argument("--clips", type=int, help="clips of each data seed; default: the demo's")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # each process has a core of its own
    args.out.mkdir(parents=True, exist_ok=True)
    for data_seed, backbones in product(args.data_seeds, args.backbones):
        prepare(args.out, args.dataset, data_seed, backbones, args.clips)
    jobs = [
        Job(args.dataset, data_seed, backbones, case, seed, _settings(head, supervision))
        for backbones in args.backbones
        for supervision, head, case in product(args.supervision, args.heads, _cases(args, backbones))
        for data_seed, seed in product(args.data_seeds, args.seeds)
    ]
    further = [replace(job, inject=inject) for inject in args.inject for job in jobs if job.case.startswith("mettle")]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        results = []
        for stage in (jobs, further):  # the second starts from runs of the first
            futures = [pool.submit(run, args.out, job, not args.no_shuffles) for job in stage]
            results += [future.result() for future in futures]
    print(table([*jobs, *further], results))


def _cases(args: argparse.Namespace, backbones: str) -> Sequence[str]:
    usual = (CASES_ON_RANDOM if backbones == "random" else CASES)[args.dataset]
    return args.cases or (CONTROLS if args.controls else usual)


def _settings(head: str, supervision: str) -> tuple[str, ...]:
    """The settings that are not the usual ones."""
    return (*([f"head={head}"] if head else []), *([f"supervision={supervision}"] if supervision != "full" else []))


if __name__ == "__main__":
    main()
