"""`avpipe cache`: what a cache holds, and whether every byte of it is as it was committed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avpipe.cli import render
from avpipe.pipeline.errors import CorruptionFound

if TYPE_CHECKING:
    from avpipe.pipeline.cache import VerifyReport

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a cache and check it.")

CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="The cache; by default the newest in $AVPIPE_CACHE or ./cache.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("show")
def show_command(cache: CacheOption = None, json: JsonOption = False) -> None:
    """Show what a cache holds: clips, arrays, bytes, settings, content hash."""
    from avpipe.pipeline.cache import open_cache, resolve_cache

    summary = open_cache(resolve_cache(cache)).summary()
    if json:
        render.emit_json(summary)
        return
    for name in ("path", "clips", "segments", "quarantined", "units"):
        render.line(f"{name:<13} {summary[name]}")
    render.line(f"{'dataset':<13} {summary['dataset'].get('name', '')}")
    render.line(f"{'size':<13} {render.human_bytes(summary['bytes'])}")
    render.line(f"{'content hash':<13} {summary['content_hash']}")
    for modality, spec in summary["specs"].items():
        render.line(f"{modality:<13} fingerprint {spec['fingerprint'][:16]}")
    render.line()
    render.table(
        ["array", "row", "type", "shards", "size"],
        [[name, _row_shape(array), array["dtype"], array["units"], render.human_bytes(array["bytes"])]
         for name, array in summary["arrays"].items()],
    )  # fmt: skip


@app.command("verify")
def verify_command(cache: CacheOption = None, json: JsonOption = False) -> None:
    """Check every byte of a cache against its ledger; exit code 5 where something is damaged."""
    from avpipe.pipeline.cache import resolve_cache, verify

    report = verify(resolve_cache(cache))
    if json:
        render.emit_json(report.as_json())
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(CorruptionFound.exit_code)


def _print_report(report: VerifyReport) -> None:
    for fault in report.faults:
        where = f"clip {fault.clip!r} segment {fault.segment}, {fault.array}: " if fault.segment is not None else ""
        render.line(f"FAULT {where}{fault.message}")
    checked = (
        f"{report.records} records, {report.files} shard files, {report.rows} rows, {render.human_bytes(report.bytes)}"
    )
    state = f"{len(report.faults)} faults" if report.faults else "no fault"
    render.line(f"{report.path}: {state} in {checked}")


def _row_shape(array: dict[str, Any]) -> str:
    return "x".join(map(str, array["shape"][1:]))
