"""`avpipe report`: one self-contained HTML page about a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avpipe.cli import render


def report_command(
    run: Annotated[Path, typer.Option(help="Folder of the run, as `avpipe train` named it.")],
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="A new .html file, or an earlier report. [default: report.html in the run]")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips that are shown in detail, half of them the hardest.")] = 24,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Another run for the table; repeat it. [default: runs beside it on the same features]"),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where the features are now. [default: as at training]")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data are now. [default: as at training]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Measure what each layer is worth; predicts the split often.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print path, bytes, counts and notes as JSON.")] = False,
) -> None:
    """Write one self-contained HTML page about a run: scores beside controls, curves, clips that play, costs."""
    from avpipe.stages.report import make_report

    done = make_report(
        run,
        split=split,
        out=out,
        clips=clips,
        beside=beside or None,
        cache=cache,
        root=root,
        device=device,
        layers=layers,
    )
    if as_json:
        render.emit_json(asdict(done))
        return
    render.line(str(done.path))
    render.line(
        f"{done.bytes / 1e6:.1f} MB; {done.details} of {done.clips} clip{'' if done.clips == 1 else 's'} in detail, "
        f"{done.videos} of them with their video; {done.seconds:.1f} s"
    )
    for note in done.notes:
        render.line(f"note: {note}")
