"""`bench extract`: stage one as a whole beside its stages alone, row after row.

Imports no torch: every measurement has a process to itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from avpipe.pipeline import progress
from avpipe.pipeline.datasets import load_dataset
from avpipe.pipeline.doctor import cores
from avpipe.pipeline.errors import UsageError
from avpipe.pipeline.lifetime import orderly_end
from avpipe.pipeline.manifest import Dataset
from avpipe.stages.bench.extract_cases import ExtractRow, made_dataset, rows_of, sampled, write_films
from avpipe.stages.bench.extract_order import ExtractOrder, clip_fields
from avpipe.stages.bench.material import require_room
from avpipe.stages.bench.process import in_a_process
from avpipe.stages.job import Wish, choose_backbones

RANDOM_WEIGHTS = "random:0"
"""Drawn so that every block changes its input; real weights would cost the same."""
UNIT_CLIPS = 4
"""Clips of a unit at least, and twice as many as there are decoders: units are committed while others are under way."""
ALONE = ("decode", "backbone", "encode")
"""Stages that are measured alone."""
MEASURES = ("together", "alone")


@dataclass(frozen=True)
class ExtractBench:
    """What to measure.

    Attributes:
        folder: where clips and caches go; they are deleted afterwards.
        rows: names in `extract_cases.ROWS`, or `OWN_ROWS` with a dataset; none: all.
        clips: clips of each row; 0: as many as suit it, the more the more cores there are.
        rounds: how often each row is measured, one after another; figures are the medians.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        decoders: processes that decode; 0: as many as suit this machine.
        decoder: backend of video frames.
        dataset, root, task, settings: the user's own data, as `load_dataset` takes them, in place of clips that are
            made; `dataset` is "" for these.
        visual, audio: backbones in place of those of the row or the dataset.
        weights: of both; None: those of the dataset, random ones where clips are made.
        visual_weights, audio_weights: of one of them, in place of `weights`.
        layers: which blocks are kept; None: those of the dataset, or the last four.
        batch: segments per backbone call; None: one clip.
    """

    folder: Path
    rows: tuple[str, ...] = ()
    clips: int = 0
    rounds: int = 1
    device: str = "auto"
    decoders: int = 0
    decoder: str = "decord"
    dataset: str = ""
    root: Path | None = None
    task: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    visual: str | None = None
    audio: str | None = None
    weights: str | None = None
    visual_weights: str | None = None
    audio_weights: str | None = None
    layers: str | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        rows_of(self.rows, bool(self.dataset))
        if self.rounds < 1:
            raise UsageError(f"rounds must be 1 or more, not {self.rounds}")
        for key in ("clips", "decoders"):
            if getattr(self, key) < 0:
                raise UsageError(f"{key} must be 0 (the bench chooses) or more, not {getattr(self, key)}")
        if not self.dataset and (self.root is not None or self.task is not None or self.settings):
            raise UsageError("--root, --task and key=value are about a dataset: name it with --dataset")


def run(bench: ExtractBench) -> dict[str, Any]:
    """Measures.

    Returns:
        JSON-ready: `rows`, `failed`, `equal` (runs on a CPU gave the same content) and more, see
        `docs/bench-extract.md`.

    Raises:
        UsageError: there is no such folder, dataset, backbone or layer.
        EnvironmentLacking: the disk lacks room.
    """
    if not bench.folder.is_dir():
        raise UsageError(f"there is no folder {bench.folder}: make it, or name another with --folder")
    load, rows = round(os.getloadavg()[0], 2), rows_of(bench.rows, bool(bench.dataset))
    own = None
    if bench.dataset:
        own = load_dataset(bench.dataset, bench.root, task=bench.task, options=bench.settings)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {each: [] for each in MEASURES} for name in rows}
    failed: dict[str, str] = {}
    with orderly_end(), tempfile.TemporaryDirectory(dir=bench.folder, prefix="avpipe-bench-") as folder:
        orders = {name: _order(bench, name, row, own, Path(folder)) for name, row in rows.items()}
        with progress.task("bench extract", bench.rounds * len(rows) * len(MEASURES), "measurements") as task:
            for name, measure in _in_turn(list(rows), bench.rounds):
                if name not in failed:
                    result, reason = _measured(orders[name], measure)
                    if result is None:
                        failed[name] = reason
                        progress.say(f"{name}: {reason}")
                    else:
                        found[name][measure].append(result)
                task.advance(1, f"{name}, {measure}")
    done = [_row(name, rows[name], orders[name], found[name]) for name in rows if name not in failed]
    return {
        "rows": done,
        "failed": [{"name": name, "reason": reason} for name, reason in failed.items()],
        "equal": all(row["equal"] or row["device"] != "cpu" for row in done),
        "rounds": bench.rounds,
        "cores": cores(),
        "load_average": load,
    }


def _in_turn(rows: Sequence[str], rounds: int) -> list[tuple[str, str]]:
    """All rows, and all again: what else the machine does then falls on all of them."""
    return [(name, measure) for _ in range(rounds) for name in rows for measure in MEASURES]


def _order(bench: ExtractBench, name: str, row: ExtractRow, own: Dataset | None, folder: Path) -> ExtractOrder:
    """What is measured of a row; makes its clips, unless they are the user's."""
    clips = bench.clips or row.clips * cores()
    weights = bench.weights or (None if own else RANDOM_WEIGHTS)
    dataset = own or made_dataset(name, row, clips, folder)
    wishes = {m: Wish(getattr(bench, m), getattr(bench, f"{m}_weights") or weights) for m in ("visual", "audio")}
    chosen = sampled(dataset, clips)
    order = ExtractOrder(
        cache=str(folder / "cache"),
        clips=[clip_fields(clip) for clip in chosen],
        timeline=asdict(dataset.timeline),
        media=dict(dataset.media),
        choices={modality: asdict(choice) for modality, choice in choose_backbones(dataset, wishes).items()},
        layers=bench.layers or str(dataset.backbones.get("layers", "last:4")),
        batch=bench.batch,
        device=bench.device,
        decoder=bench.decoder,
        decoders=bench.decoders,
        unit_segments=0,
        stored=row.stored,
    )
    job = order.job()
    unit_clips = max(UNIT_CLIPS, 2 * job.decoders)
    order = replace(order, unit_segments=unit_clips * max(clip.segments for clip in chosen))
    if row.stored:
        order.first_job()
    require_room(folder, job, sum(clip.segments for clip in chosen), "--clips or --layers")
    if own is None:
        progress.say(f"{name}: {clips} clips are made in {folder}")
        write_films(row, folder)
    return order


def _measured(order: ExtractOrder, measure: str) -> tuple[dict[str, Any] | None, str]:
    """One measurement with a cache of its own, which is deleted; or None, and why."""
    with tempfile.TemporaryDirectory(dir=Path(order.cache).parent) as folder:
        place = Path(folder)
        return in_a_process(place, {"do": measure} | order.as_json() | {"cache": str(place / "cache")})


def _row(
    name: str, row: ExtractRow, order: ExtractOrder, rounds: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """One row from its rounds: medians, and what only one round can say from the one with the median wall."""
    together, alone = rounds["together"], rounds["alone"]
    seconds = {key: median(each[key] for each in together) for key in ("startup_s", "wall_s", "cpu_s")}
    seconds |= {f"{stage}_{kind}_s": median(each[f"{stage}_{kind}_s"] for each in alone)
                for stage in ALONE for kind in ("alone", "cpu")}  # fmt: skip
    seconds["alone_cpu_s"] = sum(seconds[f"{stage}_cpu_s"] for stage in ALONE)
    typical = min(together, key=lambda each: abs(float(each["wall_s"]) - seconds["wall_s"]))
    bounds = bounds_of(seconds, cores())
    bound = max(bounds, key=lambda key: bounds[key])
    hashes = {each["content_hash"] for each in (*together, *alone)}
    kept = ("clips", "rejected", "decoders", "device", "others_share", "stages", "bottleneck", "content_hash")
    return {
        "name": name,
        "about": row.about,
        "visual": order.choices["visual"]["model"],
        "audio": order.choices["audio"]["model"],
        "layers": order.layers,
        **{key: round(value, 4) for key, value in seconds.items()},
        "cores": cores(),
        "bound": bound,
        "ratio": round(seconds["wall_s"] / bounds[bound], 3),
        "clips_per_s": round(typical["clips"] / seconds["wall_s"], 3),
        **{key: typical[key] for key in kept},
        "equal": len(hashes) == 1,
    }


def bounds_of(seconds: Mapping[str, float], cores: int) -> dict[str, float]:
    """How long an extraction takes whose stages overlap perfectly: the largest of these, by what sets it, seconds.

    Args:
        seconds: `decode_alone_s`, `backbone_alone_s` and `alone_cpu_s`.
        cores: cores of this machine.
    """
    return {
        "decode": seconds["decode_alone_s"],
        "backbone": seconds["backbone_alone_s"],
        "cores": seconds["alone_cpu_s"] / cores,
    }
