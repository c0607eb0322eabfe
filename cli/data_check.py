"""`avpipe data check`: what is wrong with a copy of a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avpipe.cli import render

if TYPE_CHECKING:
    from avpipe.pipeline.datasets.check import Report

EXIT_FAULTS = 3
"""As for inputs that are quarantined."""
SHOWN = 20
"""Findings of one kind that are printed without `--all`."""
NAMES_SHOWN = 5
"""Names of shared recordings that are printed."""


def check_command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|KEY=VALUE",
            help="The same as --dataset; settings of the reading, such as release=first.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name, or a table of your own. [default: every dataset that is found]")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Look in this folder only.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of a table of your own.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Existence, size and first bytes of files only.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one for each core]")] = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Print every finding, not {SHOWN} of a kind.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong with a dataset before hours are spent on it: annotations and files, each by name.

    Exit code 0 where nothing is, 3 where something is. Nothing is written or moved.
    """
    from avpipe.cli.extract import settings_of
    from avpipe.pipeline.datasets.check import Lookout, check, requests

    names = [text for text in overrides or () if "=" not in text]
    settings = settings_of([text for text in overrides or () if "=" in text])
    wanted = requests(one_name(names, dataset), root, task, settings)
    with Lookout(workers or os.cpu_count() or 1, quick) as lookout:
        reports = [check(request, lookout) for request in wanted]
    if as_json:
        render.emit_json([report.as_json() for report in reports])
    else:
        for report in reports:
            _print(report, None if everything else SHOWN)
        render.line(_summary(reports))
    if any(report.faults for report in reports):
        raise typer.Exit(EXIT_FAULTS)


def one_name(names: Sequence[str], dataset: str | None) -> str | None:
    """The dataset that is named, with or without `--dataset` in front.

    Raises:
        UsageError: several are.
    """
    from avpipe.pipeline.errors import UsageError

    found = list(dict.fromkeys([*names, *([dataset] if dataset is not None else [])]))
    if len(found) > 1:
        raise UsageError(f"several datasets are named, {' and '.join(map(repr, found))}: give one of them")
    return found[0] if found else None


def _print(report: Report, limit: int | None) -> None:
    root = report.root if report.root.name else report.root.absolute()  # not a dot alone
    render.line(f"{report.name}: {root}{' (demo data)' if report.demo else ''}")
    if report.counts:
        known = any(count.official is not None for count in report.counts)
        columns = ("", "found", "made" if report.demo else "official") if known else ("", "found")
        render.table(columns, [(c.what, str(c.found), _number(c.official))[: len(columns)] for c in report.counts])
    for (level, kind), findings in report.kinds().items():
        render.line(f"{level}: {kind} ({len(findings)})")
        for finding in findings[:limit]:
            render.line(f"  {finding}")
        if limit is not None and len(findings) > limit:
            render.line(f"  and {len(findings) - limit} more: --all prints them")
    _print_leakage(report)
    render.line(f"{_several(report.files, 'file')} looked at in {report.seconds:.1f} s")
    render.line()


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _print_leakage(report: Report) -> None:
    shared = report.leakage
    for pair, names in shared.pairs.items():
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        render.line(
            f"leakage: {pair} share {_several(len(names), 'recording')}: {', '.join(names[:NAMES_SHOWN])}{more}"
        )
    if shared.pairs:
        between = ", ".join(f"{number} in {part}" for part, number in shared.parts.items())
        known = "" if report.own else "; known of the dataset, and no fault"
        in_all = f"{len(shared.names)} of {shared.recordings} recordings are in more than one split"
        render.line(f"leakage: {in_all}{f' ({between})' if between else ''}{known}")


def _summary(reports: list[Report]) -> str:
    faults = sum(report.faults for report in reports)
    notes = sum(len(report.findings) for report in reports) - faults
    sets, about = _several(len(reports), "dataset"), [_several(notes, "note")] if notes else []
    if not faults:
        return f"{sets}: {', '.join(['nothing wrong', *about])}"
    return f"{sets}: {', '.join([_several(faults, 'fault'), *about])}; nothing was changed"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
