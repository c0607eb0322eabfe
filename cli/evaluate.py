"""`avpipe evaluate`: scores a run by the official protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render

SCORES = ("accuracy", "miou", "fscore")
"""Metrics that are shown in a line for each answer; parsing has ten, shown in a line each."""
TEST_SELECTED = "the epoch was chosen on the test split (select=test): compare with test-selected results only"


def evaluate_command(
    run: Annotated[Path, typer.Option(help="Folder of the run, as `avpipe train` named it.")],
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    cache: Annotated[Path | None, typer.Option(help="Where the features are now. [default: as at training]")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data are now. [default: as at training]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    residency: Annotated[
        str, typer.Option(help="Where features are kept: disk (read ahead, each once), ram, gpu or auto.")
    ] = "disk",
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of metrics.json.")] = False,
) -> None:
    """Score a run by the official protocol. Writes metrics.json and the predictions into its folder."""
    from avpipe.stages.evaluate import evaluate

    result = evaluate(run, split, cache=cache, root=root, device=device, residency=residency)
    if as_json:
        render.emit_json(result)
        return
    show_scores(result)


def show_scores(result: dict[str, Any]) -> None:
    """Prints the scores beside those of the answers that ignore their input."""
    answers = {f"{result['method']} ({result['modality']})": result["metrics"]}
    answers |= {name.replace("_", " "): scores for name, scores in result["baselines"].items()}
    if result["task"] == "parsing":
        names = [name for name in result["metrics"] if name != "videos"]
        render.table(["", *answers], [[name, *(scores[name] for scores in answers.values())] for name in names])
    else:
        names = [name for name in SCORES if name in result["metrics"]]
        render.table(["", *names], [[name, *(scores[key] for key in names)] for name, scores in answers.items()])
    missing = f", {result['missing']} of them without features" if result["missing"] else ""
    render.line(f"{result['dataset']} {result['split']}: {result['samples']} samples{missing}; {result['protocol']}")
    if bare := result["unlabelled_samples"]:
        shown = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
        render.line(
            f"not scored: {result['unlabelled']} more samples of {result['split']} without annotation ({shown})"
        )
    if result["unlabelled_segments"]:
        render.line(f"not scored: {result['unlabelled_segments']} segments of scored samples without a mask")
    render.line(f"epoch {result['epoch']} ({result['selected_by']})")
    if result.get("selection") == "test":
        render.line(TEST_SELECTED)
