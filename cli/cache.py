"""`avpipe cache`: what a cache holds, whether every byte of it is as it was committed, and imports into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.rejections import command, rejection_lines
from avpipe.cli.stand_ins import stand_in_line
from avpipe.pipeline import interrupt, progress
from avpipe.pipeline.errors import CorruptionFound, InputRejected

if TYPE_CHECKING:
    from avpipe.pipeline.cache import Fault, VerifyReport
    from avpipe.pipeline.cache.repair import RepairReport
    from avpipe.pipeline.cache_import import ImportSummary

LISTED = 20
"""Notes that an import lists."""

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
DatasetOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The cache of this dataset, where it usually lies.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def cache_meant(cache: Path | None, dataset: str | None) -> Path:
    """The cache that `--cache` names, or that `extract --dataset` makes, or else the newest."""
    from avpipe.pipeline.cache import resolve_cache
    from avpipe.pipeline.cache.locate import default_root
    from avpipe.pipeline.datasets import folder
    from avpipe.pipeline.errors import UsageError

    if cache is not None and dataset is not None:
        raise UsageError(f"--cache {cache} and --dataset {dataset} both name a cache: give one of them")
    return resolve_cache(default_root() / folder(dataset) if dataset is not None else cache)


@app.command("show")
def show_command(cache: CacheOption = None, dataset: DatasetOption = None, json: JsonOption = False) -> None:
    """Show what a cache holds: clips, backbones, arrays, bytes, settings, content hash."""
    from avpipe.pipeline.cache import open_cache
    from avpipe.pipeline.media.policies import policies_of
    from avpipe.stages.backbones.wording import described, in_words
    from avpipe.stages.taps import held_taps

    opened = open_cache(cache_meant(cache, dataset))
    summary = opened.summary()
    taps = {modality: held_taps(opened, modality) for modality in opened.specs}
    if json:
        made = {m: described(spec.fields, spec.request, taps[m]) for m, spec in opened.specs.items()}
        render.emit_json(summary | {"backbones": made})
        return
    for name in ("path", "clips", "segments", "quarantined", "units"):
        lists = f" ({command('ls', opened.path)})" if name == "quarantined" and summary[name] else ""
        render.line(f"{name:<13} {summary[name]}{lists}")
    if text := stand_in_line(summary["stand_ins"]):
        render.line(f"{'stand-ins':<13} {text}")
    render.line(f"{'dataset':<13} {summary['dataset'].get('name', '')}")
    render.line(f"{'size':<13} {render.human_bytes(summary['bytes'])}")
    render.line(f"{'content hash':<13} {summary['content_hash']}")
    for modality, spec in opened.specs.items():
        render.line(f"{modality:<13} {in_words(spec.fields, spec.request, taps[modality])}")
        if policies := policies_of(modality, spec.fields.get("media", {})):
            render.line(f"{'':<13} policies {', '.join(f'{name} {choice}' for name, choice in policies.items())}")
        render.line(f"{'':<13} fingerprint {spec.fingerprint[:16]}")
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


@app.command("repair")
def repair_command(
    cache: CacheOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data, where it is not where the cache was extracted from.")
    ] = None,
    visual_weights: Annotated[str | None, typer.Option(help="Weights of the visual backbone, if they moved.")] = None,
    audio_weights: Annotated[str | None, typer.Option(help="Weights of the audio backbone, if they moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Put back what is damaged: documents from their second copies, rows by making exactly them again.

    Features are made from the frames and samples that the cache holds, where those are sound, else from the dataset.
    Exit code 5 where something could not be repaired.
    """
    from avpipe.pipeline.cache import resolve_cache
    from avpipe.stages.repair import repair_cache

    weights = {"visual": visual_weights, "audio": audio_weights}
    given = {modality: value for modality, value in weights.items() if value is not None}
    report = repair_cache(resolve_cache(cache), root=root, weights=given, device=device)
    if json:
        render.emit_json(report.as_json())
    else:
        _print_repair(report)
    if not report.ok:
        raise typer.Exit(CorruptionFound.exit_code)


@app.command("gc")
def gc_command(
    cache: CacheOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would be deleted.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete what the ledger does not name: left-over temporaries and stray files. Committed data is never touched."""
    from avpipe.pipeline.cache import resolve_cache
    from avpipe.pipeline.cache.collect import collect

    found = collect(resolve_cache(cache), dry_run=dry_run)
    if json:
        render.emit_json(found.as_json())
        return
    for name in found.deleted:
        render.line(name)
    done = "would be deleted" if dry_run else "deleted"
    render.line(f"{found.path}: {_count(len(found.deleted), 'file')}, {render.human_bytes(found.bytes)}, {done}")
    if found.superseded_bytes:
        size = render.human_bytes(found.superseded_bytes)
        render.line(f"{size} of rows that were extracted anew lie in shards that are needed, and stay")


@app.command("import")
def import_command(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the data, such as segments=10 of your own table."),
    ] = None,
    *,
    dataset: Annotated[str, typer.Option(help="Dataset name, or a table of your own.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data. [default: $AVPIPE_DATA/NAME, data/NAME]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of a table of your own, where its columns allow several.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the cache. [default: $AVPIPE_CACHE/NAME-imported]")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(metavar="TAP=PATH", help="Audio features; may be given several times.")
    ] = None,
    visual: Annotated[
        list[str] | None, typer.Option(metavar="TAP=PATH", help="Visual features; may be given several times.")
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(metavar="[TAP=]AXES", help="Order of the axes where the shape does not tell: TNC, TCHW, THWC."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Storage type: float16, or float32 (arrays <tap>@float32).")] = "float16",
    json: JsonOption = False,
) -> None:
    """Make taps of features that a dataset's authors have released. Safe to kill and to run again.

    PATH is a folder of <id>.npy, or one file: .h5 or .npy in the order of AVE's Annotations.txt, or .npz or .h5 with
    `ids`. Train on them with `avpipe train --cache DIR`.
    """
    from avpipe.cli.extract import say_findings, settings_of
    from avpipe.pipeline.cache.locate import default_root
    from avpipe.pipeline.cache_import import import_features, load_for_import, parse_source
    from avpipe.pipeline.datasets import folder

    sources = [parse_source("audio", text) for text in audio or ()]
    sources += [parse_source("visual", text) for text in visual or ()]
    place = cache or default_root() / f"{folder(dataset)}-imported"
    found = load_for_import(dataset, root, sources, place, task=task, options=settings_of(settings or ()))
    say_findings(found)
    summary = import_features(found, place, sources, axes=axes or (), dtype=dtype)
    if json:
        render.emit_json(asdict(summary))
    else:
        _print_import(summary)
    if summary.left:
        progress.say("interrupted; what was committed is kept: run the same command again to go on")
        raise typer.Exit(interrupt.EXIT_CODE)
    if summary.quarantined:
        raise typer.Exit(InputRejected.exit_code)


@app.command("compact")
def compact_command(cache: CacheOption = None) -> None:
    """Index the ledger in two Parquet files, so that a cache of many units opens fast; extraction does so by itself."""
    from avpipe.pipeline.cache import resolve_cache
    from avpipe.pipeline.cache.compact import compact
    from avpipe.pipeline.cache.layout import Layout
    from avpipe.pipeline.cache.ledger import Ledger

    layout = Layout(resolve_cache(cache))
    done = compact(layout, Ledger(layout))
    render.line(f"{layout.root}: {'compacted' if done else 'nothing new to compact'}")


def _print_repair(report: RepairReport) -> None:
    for path in report.documents:
        render.line(f"put back {path}")
    for path in report.shards:
        render.line(f"rewrote {path}")
    if report.changed:
        render.line(
            f"NOTE the new features of {len(report.changed)} clips, such as {report.changed[0]!r}, are not the bytes "
            "that were lost: made on another device or with other versions; the content hash has changed"
        )
    for what, why in report.failed.items():
        render.line(f"FAILED {what}: {why}")
    documents, shards = _count(len(report.documents), "document"), _count(len(report.shards), "shard")
    failures = _count(len(report.failed), "failure")
    render.line(
        f"{report.path}: {documents} and {shards} repaired, {_count(report.rows, 'row')} made again, {failures}"
    )


def _print_import(summary: ImportSummary) -> None:
    for note in summary.notes[:LISTED]:
        render.line(f"NOTE {note}")
    if len(summary.notes) > LISTED:
        render.line(f"NOTE {len(summary.notes) - LISTED} more of that kind (--json lists all)")
    render.line(
        f"{summary.cache}: {', '.join(summary.arrays)} of {_count(summary.clips, 'clip')}, {summary.imported} imported "
        f"now, {len(summary.quarantined)} quarantined, {summary.left} left ({summary.seconds:.1f} s)"
    )
    for text in rejection_lines(summary.quarantined, summary.cache):
        render.line(text)


def _print_report(report: VerifyReport) -> None:
    for where, faults in _grouped(report.faults):
        more = f" (and {len(faults) - 1} more of its segments)" if len(faults) > 1 else ""
        render.line(f"FAULT {where}{faults[0].message}{more}")
    checked = (
        f"{report.records} records, {report.files} shard files, {report.rows} rows, {render.human_bytes(report.bytes)}"
    )
    state = _count(len(report.faults), "fault") if report.faults else "no fault"
    render.line(f"{report.path}: {state} in {checked}")
    if not report.ok:
        render.line(f"to mend it: avpipe cache repair --cache {report.path}")


def _grouped(faults: Iterable[Fault]) -> list[tuple[str, list[Fault]]]:
    """Faults in segments of one clip in one file together, each group with the words for its place."""
    groups: dict[tuple[object, ...], list[Fault]] = {}
    for number, fault in enumerate(faults):
        place = (fault.path, fault.clip) if fault.segment is not None else (fault.path, number)
        groups.setdefault(place, []).append(fault)
    found = []
    for same in groups.values():
        first = same[0]
        where = f"clip {first.clip!r} segment {first.segment}, {first.array}: " if first.segment is not None else ""
        found.append((where, same))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _row_shape(array: dict[str, Any]) -> str:
    return "x".join(map(str, array["shape"][1:]))
