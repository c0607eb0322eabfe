"""`avpipe data`: which datasets there are and where, what is wrong with them, and demo data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.data_check import check_command, one_name

app = typer.Typer(no_args_is_help=True, help="Datasets: what is on disk, how to get it, demo data.")

USUAL = ("ave", "avsbench")
"""What `avpipe data make` makes: what `avpipe train` then finds without a choice between subsets."""

app.command("check")(check_command)


@app.command("ls")
def list_datasets(
    root: Annotated[Path | None, typer.Option(help="Look in this folder only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the datasets, and where each was found or looked for."""
    from avpipe.pipeline import datasets

    entries = [_entry(name, root) for name in datasets.names()]
    if as_json:
        render.emit_json(entries)
        return
    rows = [(entry["name"], entry["task"], _found(entry), _where(entry)) for entry in entries]
    render.table(("dataset", "task", "found", "where"), rows)
    if not all(e["found"] for e in entries):
        render.line()
        for entry in (e for e in entries if not e["found"]):
            render.line(f"{entry['name']}: {entry['get']}")
        render.line("demo data in the same layouts: avpipe data make --dataset NAME")


def _entry(name: str, root: Path | None) -> dict[str, Any]:
    from avpipe.pipeline import datasets
    from avpipe.pipeline.errors import UsageError

    manifest = datasets.manifest_of(name)
    found = datasets.find(name, root)
    records, problem = {}, None
    if found is not None:
        try:
            records = datasets.read_overrides(found).get("demo", {})
        except UsageError as error:  # of this folder alone: the other datasets are listed all the same
            problem = str(error)
    return {
        "name": name,
        "title": manifest["title"],
        "task": manifest["task"],
        "found": found is not None,
        "root": found,
        "demo": _is_demo(name, records),
        "problem": problem,
        "looked_in": list(datasets.candidates(name, root)),
        "layout": manifest["layout"],
        "official": manifest.get("counts", {}),
        "get": manifest["get"],
    }


def _is_demo(name: str, records: dict[str, Any]) -> bool:
    """Whether what was found of a dataset was made: for `avsbench`, any of its subsets."""
    return any(made == name or made.startswith(f"{name}-") for made in records)


def _found(entry: dict[str, Any]) -> str:
    if entry["problem"]:
        return "unusable"
    return "demo" if entry["demo"] else "yes" if entry["found"] else "no"


def _where(entry: dict[str, Any]) -> str:
    if entry["problem"]:
        return str(entry["problem"])
    return str(entry["root"]) if entry["found"] else f"looked in {', '.join(map(str, entry['looked_in']))}"


@app.command("make")
def make(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The same as --dataset.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="ave, avsbench-ms3, avsbench-s4, avsbench-avss, llp or music-avqa; avsbench is its MS3. "
            "[default: ave and avsbench]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make, or to add a subset to. [default: data/ave, data/avsbench]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything in the data.")] = 0,
    clips: Annotated[
        int | None,
        typer.Option(
            min=3, help="Number of clips. [default: 300 (ave), 90 (MS3), 60 (S4, AVSS, llp), 24 (music-avqa)]"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Make demo data: seeded clips with real media files, in the official layouts.

    An avpipe.yaml beside them makes the demo's tiny backbones the default of `extract`; their weights ship with avpipe.
    The subsets of AVSBench lie in one folder: a second one is added to the first.
    """
    from avpipe.pipeline import datasets
    from avpipe.pipeline.errors import UsageError
    from avpipe.stages.demo.generate import make_demo

    chosen = one_name([name] if name is not None else [], dataset)
    wanted = USUAL if chosen is None else (chosen,)
    if out is not None and len(wanted) > 1:
        raise UsageError(f"--out {out} names one folder, but {len(wanted)} datasets are to be made: name one")
    for each in wanted:
        folder = out or datasets.DEFAULT_FOLDER / datasets.folder(each)
        made = make_demo(each, folder, seed=seed, clips=clips, workers=workers)
        render.line(f"{each}: {'made' if made else 'already there'}: {folder}")
