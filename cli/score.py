"""`avpipe score`: the official protocol on anybody's predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.evaluate import TEST_SELECTED


def score_command(
    dataset: Annotated[str, typer.Option(help="Dataset name, or a table of your own (mine.csv).")],
    predictions: Annotated[
        Path, typer.Option(help="An .npz file, a table (.csv, .parquet, .jsonl) or a folder of PNG files.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of the dataset: release=first.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data. [default: where it is usually found]")] = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    protocol: Annotated[
        str | None, typer.Option(help="The protocol reported first. [default: the official one]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What is predicted, where your own table allows several tasks.")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Samples without a prediction: refuse, or blank (scored as nothing found).")
    ] = "refuse",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score anybody's predictions by the official protocol; needs annotations only. Formats: docs/scoring.md."""
    from avpipe.cli.extract import settings_of
    from avpipe.stages.scoring import score

    result = score(
        dataset,
        predictions,
        root=root,
        split=split,
        task=task,
        protocol=protocol,
        missing=missing,
        options=settings_of(settings or ()),
    )
    if as_json:
        render.emit_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    """The lines of the official program where it has a form of its own, else a row for each protocol."""
    if result["printed"] is not None:
        for text in result["printed"]:
            render.line(text)
        render.line(f"protocol {result['protocol']}")
    else:
        by_name = {result["protocol"]: result["metrics"], **result["other_protocols"]}
        names = [key for key, value in result["metrics"].items() if isinstance(value, float)]
        rows = [[name, *(scores.get(key) for key in names)] for name, scores in by_name.items()]
        render.table(["protocol", *names], rows)
    blank = f", {result['missing']} of them without a prediction, scored as nothing found" if result["missing"] else ""
    render.line(f"{result['dataset']} {result['split']}: {result['samples']} samples{blank}")
    if size := result.get("mask_size"):
        render.line(f"masks of {size[0]} x {size[1]}")
    for text in _remarks(result):
        render.line(text)


def _remarks(result: dict[str, Any]) -> list[str]:
    """What a reader of the scores should know."""
    found = []
    if result["selection"] == "test":
        found.append(TEST_SELECTED)
    if result["missing_segments"]:
        found.append(f"{result['missing_segments']} segments of other samples without one, scored as nothing found")
    if bare := result["unlabelled_samples"]:
        shown = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
        found.append(f"not scored: {len(bare)} more samples of {result['split']} without annotation ({shown})")
    if result["other_splits"]:
        found.append(f"ignored: predictions of {result['other_splits']} samples of other splits")
    if result["unlabelled_segments"]:
        found.append(f"not scored: {result['unlabelled_segments']} segments of scored samples without a mask")
    if result.get("unknown_answers"):
        first = ", ".join(map(repr, result["unknown_answers_first"]))
        found.append(f"{result['unknown_answers']} answers are none of the dataset's ({first}), so they are wrong")
    if padded := result["metrics"].get("padded_frames"):
        assumed = result["metrics"]["assumed_frames"]
        found.append(f"{padded} frames are padding, {assumed} of them without a prediction: background assumed")
    if faults := result["annotation_faults"]:
        found.append(
            f"faults in the annotations: {len(faults)}; `avpipe data check` lists them; the first: {faults[0]}"
        )
    return found
