"""`avpipe demo`: the first thing a newcomer runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render

MAIN_METRIC = {"ave": "accuracy", "avsbench": "miou"}


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of data and training.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the extraction.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Make demo data, extract, train with controls, evaluate, write reports, and print a table."""
    from avpipe.stages.demo.run import run_demo

    result = run_demo(out, seed=seed, workers=workers)
    if as_json:
        render.emit_json(result)
        return
    render.table(
        ["dataset", "stage", "method", "modality", "metric", "test", "F", "trivial", "train s"],
        [_row(entry) for entry in result["rows"]],
    )
    render.line("trivial: the best answer that ignores its input (majority class, constant mask), from training labels")
    render.line("one seed each: another seed moves a number by several points, so close rows say nothing")
    render.line(
        "synthetic clips, tiny backbones pretrained on other synthetic objects: docs/demo.md has several seeds of each"
    )
    for path in result["reports"]:
        render.line(f"report: {path}")
    render.line(f"{result['seconds']:.0f} s in all; runs, caches and data are in {out}")


def _row(entry: dict[str, Any]) -> list[object]:
    metric = MAIN_METRIC[entry["dataset"].partition("-")[0]]
    trivial = max(scores[metric] for scores in entry["baselines"].values())
    metrics = entry["metrics"]
    return [
        *(entry["dataset"], entry["stage"], entry["method"], entry["modality"], metric),
        *(metrics[metric], metrics.get("fscore"), trivial, f"{entry['train_seconds']:.1f}"),
    ]
