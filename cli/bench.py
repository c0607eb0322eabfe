"""`avpipe bench`: measures this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.bench_extract import extract_command
from avpipe.cli.bench_train import train_command
from avpipe.cli.cache import JsonOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure this machine.")
app.command("extract")(extract_command)
app.command("train")(train_command)


@app.command("store")
def store_command(
    shape: Annotated[str, typer.Option(help="Shapes of features: vit_b, swin_v2_l or both.")] = "both",
    gb: Annotated[float, typer.Option(help="GB of features of each shape; two reads' worth at least.")] = 1.0,
    clips_per_read: Annotated[int, typer.Option(help="Clips of ten segments that one call reads.")] = 4,
    seconds: Annotated[float, typer.Option(help="Time for the warm rounds of a shape; there are three at least.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of every reader; 0: one a core, at most 8.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; default: the folder of temporaries.")] = None,
    json: JsonOption = False,
) -> None:
    """Write and read random features: avpipe, plain files, other Zarr readers. Exit code 1 where their bytes differ."""
    import tempfile

    from avpipe.pipeline.bench.material import SHAPES
    from avpipe.pipeline.bench.store import StoreBench, run
    from avpipe.pipeline.doctor import cores

    bench = StoreBench(
        folder=folder or Path(tempfile.gettempdir()),
        shapes=tuple(SHAPES) if shape == "both" else (shape,),
        gigabytes=gb,
        clips_per_read=clips_per_read,
        seconds=seconds,
        threads=threads or min(cores(), 8),
    )
    found = run(bench)
    if json:
        render.emit_json(found)
    else:
        _print(found)
    if not found["equal"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    columns = ["shape", "reader", "cold", "warm", "write", "/cold", "/warm", "/write", "checksum"]
    render.table(columns, [_cells(row) for row in found["rows"]])
    render.line(f"threads {found['rows'][0]['threads']}, clips per read {found['clips_per_read']}; GB/s, and behind / "
                "the ratio to readinto.")  # fmt: skip
    render.line("avpipe reads with check=never, avpipe_first (the default) checks each row once, avpipe_crc always;")
    render.line("avpipe_pread goes without mapping; other Zarr readers always check.")
    for name in found["left_out"]:
        render.line(f"left out: {name} is not installed")
    if not all(row["cold"] for row in found["rows"]):
        render.line("cold was not measured: files could not be put out of memory here")
    if not found["equal"]:
        render.line("DIFFERENT BYTES: the checksums of a shape are not all equal")


def _cells(row: dict[str, Any]) -> list[str]:
    speeds = [row[f"{kind}_gb_s"] for kind in ("cold", "warm", "write")]
    ratios = [row["ratios"].get(kind) for kind in ("cold", "warm", "write")]
    return [row["shape"], row["name"], *("" if v is None else f"{v:.2f}" for v in speeds + ratios), row["checksum"]]
