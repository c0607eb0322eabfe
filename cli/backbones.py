"""`avpipe backbones`: which frozen backbones can be chosen, and what their taps hold. From facts alone: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avpipe.cli import render
from avpipe.pipeline import progress

if TYPE_CHECKING:
    from avpipe.stages.backbones import BackboneFacts
    from avpipe.stages.backbones.catalogue import Model, Tap

app = typer.Typer(no_args_is_help=True, help="Backbones that can be chosen, and the shapes and bytes of their taps.")

TAGS_SHOWN = 3
"""Names of weights of one model that the table has; `--json` has all."""


@app.command("ls")
def list_backbones(
    pattern: Annotated[
        str, typer.Argument(help="Part of the name, or a glob such as 'swinv2*192'; capitals or not.")
    ] = "",
    modality: Annotated[str | None, typer.Option(help="Only those for visual, or for audio.")] = None,
    family: Annotated[str | None, typer.Option(help="Only those of this family (second column).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the backbones that --visual and --audio take."""
    from avpipe.stages.backbones.catalogue import find_models, near_names

    found = find_models(pattern, modality, family)
    if not found:
        near = near_names(pattern) if pattern else []
        tail = f"near are: {', '.join(near)}" if near else "`avpipe backbones ls` has all"
        progress.say(f"no backbone is called like {pattern!r} here: {tail}")
    if as_json:
        render.emit_json([asdict(one) | {"blocks": one.blocks} for one in found])
        return
    if found:
        columns = ("model", "family", "for", "blocks", "stages", "widths", "image", "weights")
        render.table(columns, [_row(one) for one in found])
        render.line()
    render.line(f"{len(found)} backbone{'' if len(found) == 1 else 's'}")


def _row(one: Model) -> tuple[object, ...]:
    more = len(one.weights) - TAGS_SHOWN
    weights = ", ".join(one.weights[:TAGS_SHOWN]) + (f", and {more} more" if more > 0 else "")
    size = "x".join(map(str, one.image_size)) if one.image_size else ""
    stages, widths = ("/".join(map(str, each)) for each in (one.stages, one.widths))
    return one.name, one.family, "+".join(one.modalities), one.blocks, stages, widths, size, weights or "a file"


@app.command("taps")
def show_taps(
    model: Annotated[str, typer.Argument(help="Name of the backbone, `avpipe backbones ls` lists them.")],
    modality: Annotated[
        str | None, typer.Option(help="visual or audio. [default: visual, or the only one that the model has]")
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the visual input, pixels.")] = None,
    audio_window: Annotated[
        str | None, typer.Option(help="What an audio backbone hears at once: segment or clip.")
    ] = None,
    audio_front_end: Annotated[str | None, typer.Option(help="What makes pictures of sound.")] = None,
    segment_seconds: Annotated[float, typer.Option(min=0.05, max=3600, help="Length of a segment, seconds.")] = 1.0,
    dtype: Annotated[str, typer.Option(help="Storage type of the tokens: float16 or float32.")] = "float16",
    layers: Annotated[str, typer.Option(help="all, last:K, stages, or names joined by commas.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print name, shape and bytes of every tap, for a segment (one frame, or its sound), and what --layers comes to."""
    from avpipe.pipeline.errors import unknown_name
    from avpipe.pipeline.timeline import Timeline
    from avpipe.stages.backbones import MODALITIES, BackboneChoice
    from avpipe.stages.backbones.catalogue import facts_for, taps_of
    from avpipe.stages.job import STORAGE_DTYPES

    if modality not in (None, *MODALITIES):
        raise unknown_name("modality", str(modality), MODALITIES)
    if dtype not in STORAGE_DTYPES:
        raise unknown_name("dtype", dtype, STORAGE_DTYPES)
    heard = audio_window is not None or audio_front_end is not None
    choice = BackboneChoice(
        modality or ("audio" if heard else "visual"),
        model,
        image_size=image_size,
        front_end=audio_front_end,
        window=audio_window or "segment",
    )
    facts = facts_for(choice, Timeline(segment_seconds), any_modality=modality is None)
    taps = taps_of(facts, dtype, layers)
    if as_json:
        render.emit_json(_json(facts, taps, dtype, layers, segment_seconds))
        return
    _print(facts, taps, layers, segment_seconds)


def _print(facts: BackboneFacts, taps: Sequence[Tap], layers: str, segment_seconds: float) -> None:
    render.line(_about(facts, segment_seconds))
    render.line()
    rows = [
        (
            one.name,
            one.stage,
            one.tokens,
            one.channels,
            "x".join(map(str, one.grid)),
            one.bytes,
            _marks(facts, one, layers),
        )
        for one in taps
    ]
    per = "bytes per frame" if facts.modality == "visual" else "bytes per segment"
    render.table(("tap", "stage", "tokens", "channels", "grid", per, ""), rows)
    render.line()
    for what, chosen in _sums(taps, layers).items():
        size, beside = (sum(getattr(one, key) for one in chosen) for key in ("bytes", "statistics_bytes"))
        count = f"{len(chosen)} tap{'' if len(chosen) == 1 else 's'}"
        render.line(f"{what} ({count}): {size} bytes ({_kilo(size)}), statistics of tokens beside them {_kilo(beside)}")


def _about(facts: BackboneFacts, segment_seconds: float) -> str:
    """The backbone in a line."""
    height, width = facts.input_size
    seen = f"frames of {height} x {width} pixels"
    window = f", {facts.window_segments} segments at once" if facts.window_segments > 1 else ""
    front = facts.preprocess.get("front_end", {}).get("kind", "")
    heard = f"pictures of {height} x {width} ({front or 'its own front end'}) from {facts.sample_rate} Hz{window}"
    many = "s" if facts.prefix_tokens > 1 else ""
    prefix = f", {facts.prefix_tokens} prefix token{many}" if facts.prefix_tokens else ""
    stages = f"{len(facts.stages)} stages" if len(facts.stages) > 1 else "one stage"
    what = f"{len(facts.taps)} blocks in {stages}, {seen if facts.modality == 'visual' else heard}{prefix}"
    return f"{facts.model} ({facts.family}, {facts.modality}): {what}; a segment has {segment_seconds:g} s"


def _marks(facts: BackboneFacts, one: Tap, layers: str) -> str:
    end, chosen = one.stage_end and len(facts.stages) > 1, one.chosen and layers != "all"
    return ", ".join(mark for mark, holds in (("stage end", end), ("chosen", chosen)) if holds)


def _sums(taps: Sequence[Tap], layers: str) -> dict[str, list[Tap]]:
    """What is summed up: all taps, stage ends, and the layers that were asked for."""
    ends = [one for one in taps if one.stage_end]
    found = {"all": list(taps)} | ({"stage ends": ends} if len(ends) > 1 else {})
    return found | ({} if layers == "all" else {f"--layers {layers}": [one for one in taps if one.chosen]})


def _kilo(size: int) -> str:
    """Thousands of bytes, as disks are sold."""
    return f"{size / 1000:.0f} kB" if size >= 10_000 else f"{size / 1000:.1f} kB"


def _json(facts: BackboneFacts, taps: Sequence[Tap], dtype: str, layers: str, segment_seconds: float) -> dict[str, Any]:
    """What `--json` prints."""
    names = {"all": "all", "stage ends": "stage_ends", f"--layers {layers}": "chosen"}
    sums = {names[what]: chosen for what, chosen in _sums(taps, layers).items()}
    return {
        **{key: getattr(facts, key) for key in ("model", "family", "modality", "input_size", "prefix_tokens")},
        **{key: getattr(facts, key) for key in ("sample_rate", "window_segments")},
        "segment_seconds": segment_seconds,
        "dtype": dtype,
        "layers": layers,
        "taps": [asdict(one) for one in taps],
        "totals": {
            key: {"taps": len(chosen), **{size: sum(getattr(one, size) for one in chosen) for size in _SIZES}}
            for key, chosen in sums.items()
        },
    }


_SIZES = ("bytes", "statistics_bytes")
