"""`avpipe extract`: stage one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avpipe.cli import render
from avpipe.cli.extract_summary import show_summary
from avpipe.pipeline import interrupt, progress
from avpipe.pipeline.errors import InputRejected, UsageError, unknown_name
from avpipe.pipeline.media.limits import DEADLINE_SECONDS, MEMORY_LIMIT_BYTES

if TYPE_CHECKING:
    from avpipe.pipeline.manifest import Dataset
    from avpipe.stages.backbones import BackboneChoice
    from avpipe.stages.job import ExtractJob

POLICY_DEFAULT = "[default: the cache's, the dataset's, or {}]"
WEIGHTS_HELP = (
    "`pretrained` (the model's hub), `random:SEED`, `demo` (tiny ones that ship with avpipe), or a file "
    "(`./demo` for one of that name; a folder for CLAP)."
)


FINDINGS_SHOWN = 5
"""Findings of one kind that are printed; `avpipe data check` has all."""


def extract_command(
    dataset: Annotated[str, typer.Option(help="Name (`avpipe data ls` lists them), or a table: CSV, Parquet, YAML.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the reading: segments=10 segment_seconds=1 ..."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data. [default: $AVPIPE_DATA/NAME, data/NAME]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task of a table of your own: events, parsing, segmentation or qa.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the cache. [default: $AVPIPE_CACHE/NAME]")] = None,
    modality: Annotated[str, typer.Option(help="both, visual or audio; the other can be added later.")] = "both",
    visual: Annotated[str | None, typer.Option(help="Visual backbone: `avpipe backbones ls` lists them.")] = None,
    audio: Annotated[str | None, typer.Option(help="Audio backbone: htsat, CLAP's, or any of timm's.")] = None,
    weights: Annotated[str | None, typer.Option(help=f"Weights of both backbones: {WEIGHTS_HELP}")] = None,
    visual_weights: Annotated[str | None, typer.Option(help="Weights of the visual backbone alone.")] = None,
    audio_weights: Annotated[str | None, typer.Option(help="Weights of the audio backbone alone.")] = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the visual input, pixels.")] = None,
    audio_front_end: Annotated[
        str | None, typer.Option(help="What makes pictures of sound, where the backbone leaves a choice.")
    ] = None,
    audio_window: Annotated[
        str | None,
        typer.Option(help="What the audio backbone hears at once: segment, or clip (as many segments as it takes)."),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="all, last:K, stages, or names joined by commas.")] = None,
    purpose: Annotated[
        str | None,
        typer.Option("--for", help="In place of --layers: segment, the layers that `train --stage segment` needs."),
    ] = None,
    inject_at: Annotated[
        str | None,
        typer.Option(help="With --for segment: blocks, as inject_at= of `train` names them. [default: stages]"),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Type the backbones compute in: float32, bfloat16 or float16.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Put the backbones through torch.compile.")] = False,
    dtype: Annotated[
        str, typer.Option(help="Storage type of the tokens: float16, or float32 (arrays <tap>@float32).")
    ] = "float16",
    decoder: Annotated[str, typer.Option(help="Decoder of video files: decord, pyav or torchcodec.")] = "decord",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[int | None, typer.Option(min=1, help="Segments per backbone call.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that decoding one clip may take.")] = DEADLINE_SECONDS,
    decoders: Annotated[
        int, typer.Option(min=0, help="Processes that decode side by side; 0: as many as suit this machine.")
    ] = 0,
    decode_memory: Annotated[
        int, typer.Option(min=256, help="MiB of memory that one of them may have.")
    ] = MEMORY_LIMIT_BYTES >> 20,
    short_clip: Annotated[
        str | None,
        typer.Option(
            help="Media that end before their clip: mask (stand-ins, marked as absent), repeat (the end stands in and "
            f"counts as present) or reject. {POLICY_DEFAULT.format('mask')}"
        ),
    ] = None,
    missing_audio: Annotated[
        str | None,
        typer.Option(
            help=f"Clips without sound: reject, or silence (marked as absent). {POLICY_DEFAULT.format('reject')}"
        ),
    ] = None,
    missing_video: Annotated[
        str | None,
        typer.Option(
            help="Clips without pictures: reject, or blank (grey frames, marked as absent). "
            f"{POLICY_DEFAULT.format('reject')}"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one starts a local Dask cluster.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler.")] = None,
    unit_segments: Annotated[int | None, typer.Option(min=1, help="Segments in one unit of a new cache.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try quarantined clips again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, or what hinders it, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run the backbones over a dataset once and cache every tapped layer. Safe to kill and to run again."""
    from avpipe.pipeline.cache.locate import default_root
    from avpipe.pipeline.datasets import folder
    from avpipe.stages.job import Wish, choose_backbones, resolve
    from avpipe.stages.policies import choose_policies

    cache = cache or default_root() / folder(dataset)
    found = _read(dataset, root, cache, task, settings_of(overrides or ()))
    say_findings(found)
    wishes = {
        "visual": Wish(visual, visual_weights or weights, image_size, precision=precision),
        "audio": Wish(
            audio, audio_weights or weights, front_end=audio_front_end, window=audio_window, precision=precision
        ),
    }
    own = {
        "visual": (visual, visual_weights, image_size),
        "audio": (audio, audio_weights, audio_front_end, audio_window),
    }
    wishes = {m: wishes[m] for m in _modalities(modality, [m for m, given in own.items() if any(given)])}
    choices = choose_backbones(found, wishes)
    job = resolve(
        found,
        choices,
        cache=cache,
        layers=_layers(found, choices, layers, purpose, inject_at),
        dtype=dtype,
        decoder=decoder,
        device=device,
        batch=batch,
        deadline_seconds=deadline,
        compiled=compiled,
        decoders=decoders,
        decode_memory_bytes=decode_memory * 2**20,
        policies=choose_policies(
            found,
            cache,
            choices,
            {"short_clip": short_clip, "missing_audio": missing_audio, "missing_video": missing_video},
        ),
    )
    origins = {m: _origin(found, m) for m in job.modalities if wishes[m].model is None}
    if dry_run:
        _show_plan(found, job, origins, as_json)
        return
    for line in _backbones(job, origins):
        progress.say(line)
    _extract(found, job, as_json, workers=workers, scheduler=scheduler, unit_segments=unit_segments, retry=retry)


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments by key.

    Raises:
        UsageError: one is no such pair, or a key is given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key):
            raise UsageError(f"{pair!r} is no setting: write key=value, such as segments=10")
        if key in settings:
            raise UsageError(f"{key} is given twice: {settings[key]} and {value}")
        settings[key] = value
    return settings


def _read(name: str, root: Path | None, cache: Path, task: str | None, given: Mapping[str, str]) -> Dataset:
    """The dataset, read with the settings of the cache where there is one: all clips of a cache are cut alike."""
    from avpipe.pipeline.cache import is_cache, open_cache
    from avpipe.pipeline.datasets import load_dataset, origin
    from avpipe.pipeline.datasets.own import is_own

    if not is_cache(cache):
        return load_dataset(name, root, task=task, options=given)
    opened = open_cache(cache)
    if not is_own(name) and not is_own(str(opened.dataset.get("name", ""))):
        return load_dataset(name, root, task=task, options={**origin.options_of(opened.dataset), **given})
    origin.refuse_other(cache, opened.dataset, name, root)
    kept = origin.options_of(opened.dataset)
    held = {clip: rows.segments for clip, rows in opened.clips().items()}
    found = load_dataset(name, root, task=task, options={**kept, **given}, segments=held)
    if differ := [key for key in found.options if key in given and found.options[key] != kept.get(key)]:
        old, new = (", ".join(f"{key}={have.get(key, 'none')}" for key in differ) for have in (kept, found.options))
        raise UsageError(f"cache {cache} was made with {old}, not with {new}: leave that out, or name another --cache")
    return found


def say_findings(dataset: Dataset) -> None:
    """Says what is wrong or odd in the annotations, faults first, a few of each kind."""
    from avpipe.pipeline.findings import FAULT

    kinds: dict[str, list[str]] = {}
    for finding in sorted(dataset.findings, key=lambda finding: finding.level != FAULT):
        kinds.setdefault(finding.kind, []).append(str(finding))
    for kind, lines in kinds.items():
        for line in lines[:FINDINGS_SHOWN]:
            progress.say(f"{dataset.name}: {line}")
        if (more := len(lines) - FINDINGS_SHOWN) > 0:
            progress.say(f"{dataset.name}: {more} more of {kind}: avpipe data check --dataset {_command_name(dataset)}")


def _command_name(dataset: Dataset) -> str:
    """How a command names the dataset: a table with its folder, as far as it is not here."""
    from avpipe.pipeline.datasets.own import is_own

    return str(dataset.root / dataset.name) if is_own(dataset.name) else dataset.name


def _modalities(wanted: str, given: Sequence[str]) -> tuple[str, ...]:
    """The modalities that `--modality` means; `given` are those that other options speak of."""
    from avpipe.stages.backbones import MODALITIES

    if wanted == "both":
        return MODALITIES
    if wanted not in MODALITIES:
        raise unknown_name("modality", wanted, ("both", *MODALITIES))
    for modality in given:
        if modality != wanted:
            raise UsageError(f"--modality {wanted} leaves {modality} out: drop --{modality} and what belongs to it")
    return (wanted,)


def _layers(
    dataset: Dataset, choices: Mapping[str, BackboneChoice], layers: str | None, purpose: str | None, at: str | None
) -> str | dict[str, str]:
    """Which layers are stored: those of `--layers`, or of `--for`, or what the dataset says."""
    from avpipe.stages.backbones import facts_of
    from avpipe.stages.places import layers_for

    if purpose is None:
        if at is not None:
            raise UsageError("--inject-at belongs to --for segment: give both, or name layers with --layers")
        return layers or str(dataset.backbones.get("layers", "last:4"))
    if layers is not None:
        raise UsageError("--layers and --for both choose what is stored: give one of them")
    facts = {modality: facts_of(choice, dataset.timeline) for modality, choice in choices.items()}
    return layers_for(purpose, facts, dataset.task, at or "stages")


def _origin(dataset: Dataset, modality: str) -> str:
    """Which file names the default backbone of a modality, or whose default it is."""
    from avpipe.pipeline.datasets.overrides import FILE_NAME, read_overrides

    if modality in read_overrides(dataset.root).get("backbones", {}):
        return f"from {dataset.root / FILE_NAME}"
    return f"default of {dataset.name}"


def _backbones(job: ExtractJob, origins: Mapping[str, str]) -> list[str]:
    """What is extracted with, a line for each modality; `origins` says where those come from that nobody named."""
    from avpipe.stages.backbones.wording import in_words

    lines = []
    for name, one in job.modalities.items():
        said = in_words({"backbone": one.facts.fields()}, job.request(name), one.taps)
        lines.append(f"{name}: {said}" + (f" ({origins[name]})" if name in origins else ""))
    return lines


def _show_plan(dataset: Dataset, job: ExtractJob, origins: Mapping[str, str], as_json: bool) -> None:
    from avpipe.pipeline import plan
    from avpipe.stages.backbones.wording import described
    from avpipe.stages.job import refuse_other_settings

    refuse_other_settings(job)
    estimate = plan.estimate({clip.id: clip.segments for clip in dataset.clips}, job.arrays(), _held(job))
    estimate |= {"dataset": dataset.name, "cache": str(job.cache)}
    if as_json:
        used = {m: ({"backbone": one.facts.fields()}, job.request(m), one.taps) for m, one in job.modalities.items()}
        made = {m: described(*each) | {"origin": origins.get(m)} for m, each in used.items()}
        render.emit_json(estimate | {"backbones": made})
        return
    for line in _backbones(job, origins):
        render.line(line)
    render.table(
        ["array", "row", "dtype", "segments", "bytes"],
        [
            (a["name"], "x".join(map(str, a["row_shape"])), a["dtype"], a["segments"], a["bytes"])
            for a in estimate["arrays"]
        ],
    )
    render.line(
        f"{estimate['clips']} clips to extract or to add arrays to: "
        f"{render.human_bytes(estimate['bytes'])} into {job.cache}"
    )


def _held(job: ExtractJob) -> dict[str, frozenset[str]]:
    """Clips that the cache holds already, by array."""
    from avpipe.pipeline.cache import is_cache, open_cache

    if not is_cache(job.cache):
        return {}
    cache = open_cache(job.cache)
    return {a.name: frozenset(cache.clips([a.name])) for a in job.arrays() if a.name in cache.arrays}


def _extract(dataset: Dataset, job: ExtractJob, as_json: bool, **options: Any) -> None:
    from avpipe.stages.extract import extract

    for modality in job.modalities.values():
        if modality.choice.seed is not None:
            progress.say(f"note: the {modality.choice.modality} backbone has random weights, as asked for")
    summary = extract(dataset, job, **options)
    show_summary(summary, as_json)
    if summary.left:
        progress.say("interrupted; what was committed is kept: run the same command again to go on")
        raise typer.Exit(interrupt.EXIT_CODE)
    if summary.quarantined:
        raise typer.Exit(InputRejected.exit_code)
