"""`avpipe bench extract`: whether stage one is as fast as the slowest of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.cache import JsonOption

COLUMNS = (
    *("name", "clips", "wall_s", "decode_alone_s", "backbone_alone_s", "encode_alone_s", "alone_cpu_s", "cpu_s"),
    *("bound", "ratio", "clips_per_s"),
)
"""Fields of a row that the table shows, named as in the JSON."""
MUCH = 0.1
"""Part of the processors that other programs may take before a run counts as disturbed."""


def extract_command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the dataset's reading: segments=10 ..."),
    ] = None,
    rows: Annotated[
        str, typer.Option(help="Names joined by commas, such as decode_bound,backbone_bound. [default: all]")
    ] = "",
    clips: Annotated[int, typer.Option(help="Clips of each row; 0: as many as suit it.")] = 0,
    rounds: Annotated[int, typer.Option(help="How often every row is measured, in turn.")] = 1,
    dataset: Annotated[str, typer.Option(help="Your own data in place of clips made here: a name or a table.")] = "",
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of a table of your own.")] = None,
    visual: Annotated[str | None, typer.Option(help="Visual backbone in place of the row's or the dataset's.")] = None,
    audio: Annotated[str | None, typer.Option(help="Audio backbone in place of the row's or the dataset's.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Of both, as `extract` has them. [default: random:0 for clips made here]"),
    ] = None,
    visual_weights: Annotated[str | None, typer.Option(help="Weights of the visual backbone alone.")] = None,
    audio_weights: Annotated[str | None, typer.Option(help="Weights of the audio backbone alone.")] = None,
    layers: Annotated[str | None, typer.Option(help="all, last:K, stages, or names joined by commas.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Segments per backbone call.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    decoder: Annotated[str, typer.Option(help="Decoder of video files: decord, pyav or torchcodec.")] = "decord",
    decoders: Annotated[int, typer.Option(help="Processes that decode; 0: as many as suit this machine.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where the files go; default: the folder of temporaries.")] = None,
    json: JsonOption = False,
) -> None:
    """Extract with all stages side by side, and each of them alone. Exit code 1 where a row fails or bytes differ."""
    import tempfile

    from avpipe.cli.extract import settings_of
    from avpipe.stages.bench.extract import ExtractBench, run

    bench = ExtractBench(
        folder=folder or Path(tempfile.gettempdir()),
        rows=tuple(dict.fromkeys(name.strip() for name in rows.split(",") if name.strip())),
        clips=clips,
        rounds=rounds,
        dataset=dataset,
        root=root,
        task=task,
        settings=settings_of(overrides or ()),
        visual=visual,
        audio=audio,
        weights=weights,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
        layers=layers,
        batch=batch,
        device=device,
        decoder=decoder,
        decoders=decoders,
    )
    found = run(bench)
    if json:
        render.emit_json(found)
    else:
        _print(found)
    if found["failed"] or not found["equal"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    from avpipe.stages.bench.train import busy_in_words

    render.table(list(COLUMNS), [[row[key] for key in COLUMNS] for row in found["rows"]])
    render.line(f"{found['cores']} cores, load average at the start {found['load_average']}; ratio: wall_s to the "
                "largest of decode_alone_s, backbone_alone_s and alone_cpu_s / cores")  # fmt: skip
    for row in found["rows"]:
        render.line(f"{row['name']}: {row['visual']} and {row['audio']} on {row['device']}, {_busy(row)}")
        if not row["equal"]:
            render.line(f"{row['name']}: DIFFERENT CONTENT: the content hashes of its runs are not all equal")
    if busy := busy_in_words(found["load_average"], found["cores"]):
        render.line(busy)
    elif disturbed := [row["name"] for row in found["rows"] if (row["others_share"] or 0) > MUCH]:
        render.line(f"other programs took more than {MUCH:.0%} of the processors during {', '.join(disturbed)}: "
                    "times are not to be trusted")  # fmt: skip
    for each in found["failed"]:
        render.line(f"FAILED: {each['name']}: {each['reason']}")


def _busy(row: dict[str, Any]) -> str:
    shares = [
        f"{stage['name']} {stage['busy_share']:.0%}" + (f" of {stage['lanes']}" if stage["lanes"] > 1 else "")
        for stage in row["stages"]
    ]
    return f"busy: {', '.join(shares)}; bottleneck: {row['bottleneck'] or 'none'}"
