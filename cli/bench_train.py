"""`avpipe bench train`: what a training step costs here, with a cache and without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.cache import JsonOption

COLUMNS = (
    *("pair", "name", "batch", "residency", "step_s", "step_cpu_s", "forward_s", "epoch_s"),
    *("peak_mib", "base_mib", "trainable"),
)
"""Fields of a row that the table shows, named as in the JSON."""
TIMES = ("step_times", "step_cpu_times", "forward_times", "epoch_times")
"""The same of how two rows compare."""


def train_command(
    pair: Annotated[
        list[str] | None,
        typer.Option(help="Backbones: vit_base (default), swinv2_htsat, demo or VISUAL+AUDIO; may be repeated."),
    ] = None,
    rows: Annotated[str, typer.Option(help="Names joined by commas, such as cached,rerun,lavish. [default: all]")] = "",
    batches: Annotated[
        str, typer.Option(help="Clips a step, joined by commas. [default: 1 and 8, or what suits]")
    ] = "",
    segments: Annotated[int, typer.Option(help="Segments of a clip.")] = 10,
    clips: Annotated[int, typer.Option(help="Clips, all of which make an epoch.")] = 8,
    steps: Annotated[int, typer.Option(help="Steps that count of each row, at least; epochs are whole.")] = 3,
    seconds: Annotated[float, typer.Option(help="Time that the steps of a row take, at least.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often every row is measured, in turn.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    residency: Annotated[
        str, typer.Option(help="Where features are kept: disk, ram, gpu. [default: disk; `cached` on a GPU: all]")
    ] = "",
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: its default.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; default: the folder of temporaries.")] = None,
    json: JsonOption = False,
) -> None:
    """Train from a cache, with the backbones run at every step, and with adapters. Exit code 1 where a row fails."""
    import tempfile

    from avpipe.stages.bench.train import TrainBench, run

    bench = TrainBench(
        folder=folder or Path(tempfile.gettempdir()),
        pairs=tuple(dict.fromkeys(pair or ["vit_base"])),
        rows=_names(rows),
        batches=_numbers(batches),
        clips=clips,
        segments=segments,
        steps=steps,
        seconds=seconds,
        rounds=rounds,
        device=device,
        residency=_names(residency),
        threads=threads,
    )
    found = run(bench)
    if json:
        render.emit_json(found)
    else:
        _print(found)
    if found["failed"]:
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    from avpipe.pipeline.errors import UsageError

    for name in _names(text):
        if not name.isdecimal():
            raise UsageError(f"--batches {text}: give whole numbers joined by commas, such as 1,8")
    return tuple(int(name) for name in _names(text))


def _print(found: dict[str, Any]) -> None:
    from avpipe.stages.bench.train import busy_in_words

    render.table(list(COLUMNS), [[row[key] for key in COLUMNS] for row in found["rows"]])
    devices = dict.fromkeys(f"{row['device']}, {row['threads']} threads" for row in found["rows"])
    render.line(f"{found['clips']} clips of {found['segments']} segments; {'; '.join(devices)}; load average at the "
                f"start {found['load_average']}")  # fmt: skip
    if busy := busy_in_words(found["load_average"], found["cores"]):
        render.line(busy)
    if found["ratios"]:
        render.line()
        columns = ["pair", "row", "batch", "residency", "to", *TIMES, "memory_share"]
        render.table(columns, [_ratio_cells(each) for each in found["ratios"]])
    for each in found["failed"]:
        render.line(f"FAILED: {each['pair']} {each['name']}, batch {each['batch']}: {each['reason']}")


def _ratio_cells(each: dict[str, Any]) -> list[str]:
    times = [f"{each[kind]:.1f}x faster" for kind in TIMES]
    share = each["memory_share"]
    memory = "" if share is None else f"{share:.1%}"
    return [each["pair"], each["row"], str(each["batch"]), each["residency"], each["to"], *times, memory]
