"""`avpipe quarantine`: clips that could not be used, and another try once they are mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avpipe.cli import render
from avpipe.cli.cache import CacheOption, DatasetOption, JsonOption, cache_meant
from avpipe.cli.rejections import LISTED, command
from avpipe.pipeline import interrupt, progress
from avpipe.pipeline.errors import InputRejected
from avpipe.pipeline.media.limits import DEADLINE_SECONDS, MEMORY_LIMIT_BYTES

if TYPE_CHECKING:
    from avpipe.pipeline.cache.ledger import Ledger
    from avpipe.pipeline.quarantine import Entry
    from avpipe.stages.retry import RetrySummary

KIND_WIDTH = 100
"""Characters of a kind of reason that are shown."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clips that could not be used: list, try again.")

StageOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only those that failed there: probe, frames, audio, decode, ...")
]


@app.command("ls")
def ls_command(
    cache: CacheOption = None,
    dataset: DatasetOption = None,
    stage: StageOption = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason holds this.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them to a Parquet file, too.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them to a CSV file, too.")] = None,
    json: JsonOption = False,
) -> None:
    """List quarantined clips: how many for which kind of reason, then each.

    `ledger/quarantine.parquet` in the cache holds the same, for other programs.
    """
    from avpipe.pipeline import quarantine, quarantine_table

    path = cache_meant(cache, dataset)
    ledger = _ledger(path)
    quarantine_table.keep(ledger)
    entries = quarantine.select(quarantine_table.listed(ledger), stage=stage, reason=reason)
    if parquet is not None:
        parquet.write_bytes(quarantine_table.as_parquet(entries))
    if csv is not None:
        csv.write_text(quarantine_table.as_csv(entries))
    if json:
        groups = [group.as_json() for group in quarantine.kinds(entries)]
        table = str(ledger.layout.quarantine_table)
        found = {"cache": str(path), "table": table, "quarantined": len(entries), "kinds": groups}
        render.emit_json(found | {"clips": [entry.as_json() for entry in entries]})
        return
    _show(path, entries, len(ledger.quarantined()))


@app.command("retry")
def retry_command(
    clips: Annotated[
        list[str] | None, typer.Argument(metavar="CLIP", help="Ids; those that begin with - come after --.")
    ] = None,
    cache: CacheOption = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The dataset, where the cache does not tell; else its cache.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data, where it is not where it was.")
    ] = None,
    stage: StageOption = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason holds this.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that decoding one clip may take.")] = DEADLINE_SECONDS,
    decode_memory: Annotated[
        int, typer.Option(min=256, help="MiB of memory that one decoder may have.")
    ] = MEMORY_LIMIT_BYTES >> 20,
    decoders: Annotated[int, typer.Option(min=0, help="Processes that decode side by side; 0: automatic.")] = 0,
    decoder: Annotated[str | None, typer.Option(help="decord, pyav or torchcodec. [default: the cache's]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    visual_weights: Annotated[str | None, typer.Option(help="Weights of the visual backbone, if they moved.")] = None,
    audio_weights: Annotated[str | None, typer.Option(help="Weights of the audio backbone, if they moved.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one starts a local Dask cluster.")] = 1,
    json: JsonOption = False,
) -> None:
    """Try quarantined clips again, all or some: only they are extracted, with the settings of the cache.

    Exit code 0 where all of them came through, 3 where some are still quarantined.
    """
    from avpipe.pipeline import quarantine
    from avpipe.pipeline.quarantine_table import listed
    from avpipe.stages.retry import RetrySummary, retry

    path = cache_meant(cache, dataset if cache is None else None)
    ledger = _ledger(path)
    entries = listed(ledger)
    entries = quarantine.named(entries, clips, ledger.home) if clips else entries
    chosen = [entry.clip for entry in quarantine.select(entries, stage=stage, reason=reason)]
    summary = RetrySummary(path, (), 0.0)
    if chosen:
        weights = {"visual": visual_weights, "audio": audio_weights}
        summary = retry(
            path,
            chosen,
            name=dataset,
            root=root,
            weights={modality: place for modality, place in weights.items() if place is not None},
            workers=workers,
            decoder=decoder,
            device=device,
            deadline_seconds=deadline,
            decoders=decoders,
            decode_memory_bytes=decode_memory * 2**20,
        )
    _report(summary, json, len(entries))


def _ledger(path: Path) -> Ledger:
    from avpipe.pipeline.cache.layout import Layout
    from avpipe.pipeline.cache.ledger import Ledger

    return Ledger(Layout(path))


def _show(path: Path, entries: Sequence[Entry], of: int) -> None:
    from avpipe.pipeline.quarantine import kinds

    if not entries:
        render.line(f"{path}: {_none(of)}")
        return
    groups = kinds(entries)
    render.line(f"{path}: {_count(len(entries))} quarantined")
    if len(groups) > 1:
        rows = [[len(group.entries), group.stage, _cut(group.kind)] for group in groups]
        render.table(["clips", "stage", "kind of reason"], rows)
    for group in groups:
        first = group.as_json()
        hint = f" ({first['hint']})" if first["hint"] else ""
        render.line()
        render.line(f"{_count(len(group.entries))} at {group.stage}: {_cut(first['kind'])}{hint}")
        for entry in group.entries:
            often = f", {entry.attempts} times" if entry.attempts > 1 else ""
            when = f"{entry.last_failed.astimezone():%Y-%m-%d %H:%M}{often}"
            render.line(f"  {entry.clip}  ({when})  {entry.reason}")
    render.line()
    render.line(f"once they are mended: {command('retry', path)}")


def _report(summary: RetrySummary, as_json: bool, of: int) -> None:
    """Says what became of the clips chosen out of so many, and ends with the exit code that goes with it."""
    counts = {outcome: summary.count(outcome) for outcome in ("cached", "quarantined", "gone", "left")}
    if as_json:
        members = {"cache": str(summary.cache), "tried": len(summary.clips) - counts["gone"], **counts}
        render.emit_json(members | {"seconds": summary.seconds, "clips": [asdict(clip) for clip in summary.clips]})
    elif not summary.clips:
        render.line(f"{summary.cache}: nothing to try again, {_none(of)}")
    else:
        _print(summary, counts)
    if counts["left"]:
        progress.say("interrupted; what was committed is kept: run the same command again to go on")
        raise typer.Exit(interrupt.EXIT_CODE)
    if counts["quarantined"] or counts["gone"]:
        raise typer.Exit(InputRejected.exit_code)


def _print(summary: RetrySummary, counts: dict[str, int]) -> None:
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    render.line(f"{summary.cache}: {_count(len(summary.clips))}: {said} ({summary.seconds:.1f} s)")
    for outcome in counts:
        clips = [clip for clip in summary.clips if clip.outcome == outcome]
        for clip in clips[:LISTED]:
            why = f": {clip.reason}" if clip.reason else ""
            hint = f" ({clip.hint})" if clip.hint else ""
            render.line(f"  {outcome:<11} {clip.clip}{why}{hint}")
        if len(clips) > LISTED:
            render.line(f"  {outcome:<11} {len(clips) - LISTED} more (--json has all)")
    if counts["quarantined"] or counts["gone"]:
        render.line(f"still quarantined: {command('ls', summary.cache)}")


def _none(of: int) -> str:
    """What to say where nothing is chosen, of so many quarantined clips."""
    return f"none of {_count(of)} in quarantine matches" if of else "nothing is quarantined"


def _cut(text: str) -> str:
    return text if len(text) <= KIND_WIDTH else f"{text[:KIND_WIDTH]}..."


def _count(number: int) -> str:
    return f"{number} clip" + ("" if number == 1 else "s")
