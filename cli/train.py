"""`avpipe train`: stage two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avpipe.cli import render
from avpipe.stages.presets import preset_names


def train_command(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, such as epochs=20 lr=1e-3 seed=1.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"Settings to start from: {', '.join(preset_names())}, or a YAML file like these."),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="distill, or segment (data with masks: meta-tokens injected). [default: distill]"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset name, or a table of your own. [default: that of the newest cache]")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data. [default: where the cache was made from]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of a table of your own, where its columns allow several.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the cache. [default: $AVPIPE_CACHE/NAME, or the newest]")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="mettle; linear (the control); lavish (adapters, no cached layers). [default: mettle]"),
    ] = None,
    modality: Annotated[str | None, typer.Option(help="both, audio or visual. [default: both]")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run. [default: a new one below ./runs]")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Run that --stage segment starts from, or none. [default: the newest distill run beside it that fits]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run after its last checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    residency: Annotated[
        str, typer.Option(help="Where features are kept: disk, ram, gpu, or auto (the fastest that fits; says why).")
    ] = "auto",
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Checkpoint within an epoch after so many seconds; 0: after every step.")
    ] = 300,
) -> None:
    """Train a distiller and a head on cached features. Prints the run folder, and the command that scores it.

    KEY=VALUE and options come before what a preset says, and that before the task's defaults.
    """
    from avpipe.stages.presets import load_preset
    from avpipe.stages.train_options import TrainOptions, check_early

    options = TrainOptions(
        dataset=dataset,
        root=root,
        task=task,
        cache=cache,
        stage=stage,
        method=method,
        modality=modality,
        run=run,
        start=start,
        resume=resume,
        device=device,
        residency=residency,
        checkpoint_seconds=checkpoint_seconds,
        overrides=tuple(overrides or ()),
        preset=load_preset(preset) if preset is not None else None,
    )
    if not resume:
        check_early(options)  # before seconds are spent on importing torch

    from avpipe.stages.train import train

    done = train(options)
    render.line(str(done))
    render.line(f"next: avpipe evaluate --run {done}")
